import assert from 'node:assert/strict';
import fc from 'fast-check';
import { createRouter, hostName, type RouteEntry } from '../../../core/openapi/router.ts';

type Entry = RouteEntry<string>;

function router(...routes: readonly string[]) {
  return createRouter(
    routes.map((route): Entry => {
      const [method = '', path = ''] = route.split(' ');
      return { basePath: '', method, path, value: route };
    }),
  );
}

describe('core/openapi/router', () => {
  it('captures what stands at a template, percent-decoded after the path was split', () => {
    const match = router('GET /files/{name}').match('any', 'GET', '/files/a%2Fb%20c%C3%A4');
    assert.deepEqual(match, { kind: 'found', value: 'GET /files/{name}', params: { name: 'a/b cä' } });
  });

  it('prefers a literal to a template inside a segment, and that to a bare capture', () => {
    const { match } = router('GET /a/{x}', 'GET /a/{x}.json', 'GET /a/{x}.min.json', 'GET /a/fixed');
    const values = ['/a/fixed', '/a/b.min.json', '/a/b.json', '/a/b.xml'].map((path) => {
      const found = match('h', 'GET', path);
      return found.kind === 'found' ? [found.value, { ...found.params }] : found.kind;
    });
    assert.deepEqual(values, [
      ['GET /a/fixed', {}],
      ['GET /a/{x}.min.json', { x: 'b' }],
      ['GET /a/{x}.json', { x: 'b' }],
      ['GET /a/{x}', { x: 'b.xml' }],
    ]);
  });

  it('goes back from a literal that leads nowhere to a capture that does', () => {
    const found = router('GET /a/b/d', 'GET /a/{x}/c', 'GET /a/{x}-{y}/e').match('h', 'GET', '/a/b/c');
    assert.deepEqual(found, { kind: 'found', value: 'GET /a/{x}/c', params: { x: 'b' } });
  });

  it('gives each method of a path the names its own template has', () => {
    const { match } = router('GET /a/{x}/b', 'PUT /a/{y}/b');
    assert.deepEqual(match('h', 'PUT', '/a/1/b'), { kind: 'found', value: 'PUT /a/{y}/b', params: { y: '1' } });
    assert.deepEqual(match('h', 'GET', '/a/1/b'), { kind: 'found', value: 'GET /a/{x}/b', params: { x: '1' } });
  });

  it('answers 405 with Allow, HEAD and OPTIONS in it, for a method the path does not have', () => {
    const { match } = router('GET /a', 'DELETE /a', 'POST /b');
    assert.deepEqual(match('h', 'PATCH', '/a'), { kind: 'method', allow: ['DELETE', 'GET', 'HEAD', 'OPTIONS'] });
    assert.deepEqual(match('h', 'HEAD', '/b'), { kind: 'method', allow: ['OPTIONS', 'POST'] });
  });

  it('lets the path decide before the method', () => {
    const { match } = router('GET /pets/mine', 'DELETE /pets/{id}');
    assert.equal(match('h', 'DELETE', '/pets/mine').kind, 'method');
  });

  it('answers HEAD from GET, unless HEAD is declared', () => {
    assert.deepEqual(router('GET /a').match('h', 'HEAD', '/a'), { kind: 'found', value: 'GET /a', params: {} });
    const own = router('GET /a', 'HEAD /a').match('h', 'HEAD', '/a');
    assert.deepEqual(own, { kind: 'found', value: 'HEAD /a', params: {} });
  });

  it('answers OPTIONS with Allow, unless OPTIONS is declared', () => {
    assert.deepEqual(router('GET /a').match('h', 'OPTIONS', '/a'), {
      kind: 'options',
      allow: ['GET', 'HEAD', 'OPTIONS'],
    });
    assert.equal(router('OPTIONS /a').match('h', 'OPTIONS', '/a').kind, 'found');
  });

  it('ends a base path at a segment: /api never catches /apiary', () => {
    const { match } = createRouter([
      { basePath: '/api', method: 'GET', path: '/{x}', value: 1 },
      { basePath: '/api', method: 'GET', path: '/', value: 2 },
    ]);
    assert.equal(match('h', 'GET', '/apiary').kind, 'none');
    assert.equal(match('h', 'GET', '/apiary/x').kind, 'none');
    assert.equal(match('h', 'GET', '/api').kind, 'none');
    assert.deepEqual(match('h', 'GET', '/api/ary'), { kind: 'found', value: 1, params: { x: 'ary' } });
    assert.deepEqual(match('h', 'GET', '/api/'), { kind: 'found', value: 2, params: {} });
  });

  it('holds /x and /x/ apart, and matches no empty segment with a capture', () => {
    const { match } = router('GET /x', 'GET /y/', 'GET /z/{id}');
    assert.equal(match('h', 'GET', '/x/').kind, 'none');
    assert.equal(match('h', 'GET', '/y').kind, 'none');
    assert.equal(match('h', 'GET', '/y/').kind, 'found');
    assert.equal(match('h', 'GET', '/z/').kind, 'none');
    assert.equal(match('h', 'GET', '/z//').kind, 'none');
    assert.equal(match('h', 'GET', '//x').kind, 'none');
  });

  it('takes an encoded path for the one it stands for', () => {
    const { match } = router('GET /a%20b/{x}-{y}', 'GET /caf%C3%A9', 'GET /plain');
    assert.equal(match('h', 'GET', '/a%20b/1%2d2').kind, 'found');
    assert.equal(match('h', 'GET', '/caf%c3%a9').kind, 'found');
    assert.equal(match('h', 'GET', '/caf\u00e9').kind, 'found');
    assert.equal(match('h', 'GET', '/%70lain').kind, 'found');
  });

  it('refuses malformed encodings and dot segments, encoded or not', () => {
    const { match } = router('GET /a/{x}', 'GET /a/{x}/{y}');
    for (const path of ['/a/%', '/a/%zz', '/a/%ff', '/a/..', '/a/%2e%2e', '/a/.%2E/b', '/a/./b']) {
      assert.equal(match('h', 'GET', path).kind, 'malformed', path);
    }
    assert.equal(match('h', 'GET', '/a/...').kind, 'found');
  });

  it('prefers the host named exactly, in any case and with any port, to every host', () => {
    const { match } = createRouter([
      { basePath: '', method: 'GET', path: '/a', value: 'any' },
      { basePath: '', method: 'GET', path: '/b', value: 'any' },
      { host: 'Shop.example.com', basePath: '', method: 'GET', path: '/a', value: 'shop' },
      { host: 'shop.example.com', basePath: '', method: 'POST', path: '/b', value: 'shop' },
    ]);
    assert.deepEqual(match('SHOP.example.com:8080', 'GET', '/a'), { kind: 'found', value: 'shop', params: {} });
    assert.deepEqual(match('shop.example.com.', 'GET', '/a'), { kind: 'found', value: 'shop', params: {} });
    assert.deepEqual(match('other', 'GET', '/a'), { kind: 'found', value: 'any', params: {} });
    assert.deepEqual(match(undefined, 'GET', '/a'), { kind: 'found', value: 'any', params: {} });
    assert.equal(match('shop.example.com', 'GET', '/b').kind, 'method');
    assert.equal(hostName('[::1]:80'), '[::1]');
  });

  it('keeps the first of two equal entries', () => {
    const { match } = createRouter([
      { basePath: '', method: 'GET', path: '/a/{x}', value: 1 },
      { basePath: '', method: 'GET', path: '/a/{y}', value: 2 },
    ]);
    assert.deepEqual(match('h', 'GET', '/a/b'), { kind: 'found', value: 1, params: { x: 'b' } });
  });

  it('finds what a search through all routes finds', () => {
    const word = fc.constantFrom('a', 'b', 'ab', 'a-b', 'a.b');
    const segment = fc.oneof(word, fc.constantFrom('{x}', '{x}-{y}', '{x}.b', 'a{x}', ''));
    const path = fc.array(segment, { minLength: 1, maxLength: 4 }).map(uniqueNames);
    const asked = fc.array(fc.oneof(word, fc.constantFrom('', 'a-b-b', 'a%2Db', 'c')), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(path, { maxLength: 12 }), asked, (paths, segments) => {
        const entries = paths.map((each): Entry => ({ basePath: '', method: 'GET', path: each, value: each }));
        const found = createRouter(entries).match('h', 'GET', `/${segments.join('/')}`);
        assert.deepEqual(found.kind === 'found' ? found.value : undefined, searchAll(paths, segments));
      }),
      { numRuns: 2_000 },
    );
  });

  it('answers after entries have come and gone as one that was made of those that are left', () => {
    const word = fc.constantFrom('a', 'b', 'a.b', '%61');
    const segment = fc.oneof(word, fc.constantFrom('{x}', '{x}.b', '{x}-{y}'));
    const entry = fc.record({
      host: fc.constantFrom(undefined, 'shop.test', 'SHOP.test'),
      basePath: fc.constantFrom('', '/a'),
      method: fc.constantFrom('GET', 'POST'),
      path: fc.array(segment, { minLength: 1, maxLength: 3 }).map(uniqueNames),
      isLeft: fc.boolean(),
    });
    const asked = fc.array(fc.array(fc.constantFrom('a', 'b', 'a.b', 'a-b', 'c'), { minLength: 1, maxLength: 4 }));
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), asked, (made, paths) => {
        // Equal ones have different values.
        const entries = made.map((each, value) => ({ ...each, value }));
        const left = entries.filter(({ isLeft }) => isLeft);
        const live = createRouter(entries);
        for (const each of entries) if (!each.isLeft) live.remove(each);
        const fresh = createRouter(left);
        for (const host of ['shop.test', 'else.test']) {
          for (const method of ['GET', 'POST', 'OPTIONS']) {
            for (const path of paths.map((segments) => `/${segments.join('/')}`))
              assert.deepEqual(live.match(host, method, path), fresh.match(host, method, path));
          }
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it('gives back any text a client encodes into a path', () => {
    const text = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
      .filter((each) => each !== '.' && each !== '..');
    fc.assert(
      fc.property(text, text, (x, y) => {
        const path = `/a/${encodeURIComponent(x)}/b/${encodeURIComponent(y)}`;
        const found = router('GET /a/{x}/b/{y}').match('h', 'GET', path);
        assert.deepEqual(found, { kind: 'found', value: 'GET /a/{x}/b/{y}', params: { x, y } });
      }),
    );
  });
});

/** Templates may not use a name twice: x, y → x0, y1, … */
function uniqueNames(segments: readonly string[]): string {
  let count = 0;
  return `/${segments.map((each) => each.replaceAll(/\{(\w)\}/g, (_, name) => `{${name}${count++}}`)).join('/')}`;
}

/** The router's rule, written down as plainly as it can be: compare all, segment by segment from the left. */
function searchAll(paths: readonly string[], asked: readonly string[]): string | undefined {
  const segments = asked.map(decodeURIComponent);
  const matching = paths.filter((path) => {
    const templates = path.slice(1).split('/');
    return (
      templates.length === segments.length &&
      templates.every((each, index) => expression(each).test(segments[index] ?? ''))
    );
  });
  const ranked = matching.map((path) => ({ path, rank: path.slice(1).split('/').map(rankOf) }));
  ranked.sort((a, b) => compareRanks(a.rank, b.rank));
  return ranked[0]?.path;
}

function expression(template: string): RegExp {
  const literals = template.split(/\{\w+\}/).map((literal) => literal.replaceAll(/[.-]/g, String.raw`\$&`));
  return new RegExp(`^${literals.join('.+?')}$`);
}

/** Literal, then mixed with more literal text first, then capture. */
function rankOf(template: string): string {
  if (!template.includes('{')) return '0';
  const literals = template.split(/\{\w+\}/);
  const length = literals.join('').length;
  return length === 0 ? '2' : `1${String(99 - length)}${literals.join('\0')}`;
}

function compareRanks(a: readonly string[], b: readonly string[]): number {
  for (const [index, rank] of a.entries()) {
    const other = b[index] ?? '';
    if (rank !== other) return rank < other ? -1 : 1;
  }
  return 0;
}
