import assert from 'node:assert/strict';
import fc from 'fast-check';
import { accepted, oneOperation, refused, request } from './one-operation.ts';

const COLORS = { type: 'array', items: { type: 'string' } };
const RGB = {
  type: 'object',
  properties: { R: { type: 'integer' }, G: { type: 'integer' }, B: { type: 'integer' } },
};
const BLUES = ['blue', 'black', 'brown'];
const RGB_VALUE = { R: 100, G: 200, B: 150 };

type Place = 'path' | 'query' | 'header' | 'cookie';
type Row = readonly [Place, string, boolean, object, string, unknown];

/** The examples of OpenAPI 3.1.1 §4.8.12.3 (and of 3.0.3, where they differ), with `color` as the name. */
const EXAMPLES: readonly Row[] = [
  ['path', 'matrix', false, { type: 'string' }, ';color=blue', 'blue'],
  ['path', 'matrix', false, { type: 'string' }, ';color', ''],
  ['path', 'matrix', false, COLORS, ';color=blue,black,brown', BLUES],
  ['path', 'matrix', true, COLORS, ';color=blue;color=black;color=brown', BLUES],
  ['path', 'matrix', false, RGB, ';color=R,100,G,200,B,150', RGB_VALUE],
  ['path', 'matrix', true, RGB, ';R=100;G=200;B=150', RGB_VALUE],
  ['path', 'label', false, { type: 'string' }, '.blue', 'blue'],
  ['path', 'label', false, COLORS, '.blue,black,brown', BLUES],
  ['path', 'label', false, COLORS, '.blue.black.brown', BLUES],
  ['path', 'label', true, COLORS, '.blue.black.brown', BLUES],
  ['path', 'label', false, RGB, '.R,100,G,200,B,150', RGB_VALUE],
  ['path', 'label', false, RGB, '.R.100.G.200.B.150', RGB_VALUE],
  ['path', 'label', true, RGB, '.R=100.G=200.B=150', RGB_VALUE],
  ['path', 'simple', false, { type: 'string' }, 'blue', 'blue'],
  ['path', 'simple', false, COLORS, 'blue,black,brown', BLUES],
  ['path', 'simple', true, COLORS, 'blue,black,brown', BLUES],
  ['path', 'simple', false, RGB, 'R,100,G,200,B,150', RGB_VALUE],
  ['path', 'simple', true, RGB, 'R=100,G=200,B=150', RGB_VALUE],
  ['header', 'simple', false, { type: 'integer' }, '7', 7],
  ['header', 'simple', false, COLORS, 'blue, black,brown', BLUES],
  ['header', 'simple', false, RGB, 'R,100,G,200,B,150', RGB_VALUE],
  ['header', 'simple', true, RGB, 'R=100,G=200,B=150', RGB_VALUE],
  ['query', 'form', true, { type: 'string' }, 'color=blue', 'blue'],
  ['query', 'form', true, { type: 'string' }, 'color=', ''],
  ['query', 'form', true, { type: 'string' }, 'color', ''],
  ['query', 'form', false, COLORS, 'color=blue,black,brown', BLUES],
  ['query', 'form', false, COLORS, 'color=a%2Cb,c', ['a,b', 'c']],
  ['query', 'form', true, COLORS, 'color=blue&color=black&color=brown', BLUES],
  ['query', 'form', true, COLORS, 'color=blue', ['blue']],
  ['query', 'form', false, RGB, 'color=R,100,G,200,B,150', RGB_VALUE],
  ['query', 'spaceDelimited', false, COLORS, 'color=blue%20black%20brown', BLUES],
  ['query', 'spaceDelimited', false, COLORS, 'color=blue+black+brown', BLUES],
  ['query', 'spaceDelimited', false, RGB, 'color=R%20100%20G%20200%20B%20150', RGB_VALUE],
  ['query', 'pipeDelimited', false, COLORS, 'color=blue%7Cblack%7Cbrown', BLUES],
  ['query', 'pipeDelimited', false, COLORS, 'color=blue|black|brown', BLUES],
  ['query', 'pipeDelimited', false, RGB, 'color=R%7C100%7CG%7C200%7CB%7C150', RGB_VALUE],
  ['query', 'deepObject', true, RGB, 'color%5BR%5D=100&color[G]=200&color%5BB%5D=150', RGB_VALUE],
  ['cookie', 'form', true, { type: 'string' }, 'other=1; color=blue', 'blue'],
  ['cookie', 'form', false, COLORS, 'color=blue,black,brown', BLUES],
  ['cookie', 'form', false, RGB, 'color=R,100,G,200,B,150', RGB_VALUE],
];

function send(place: Place, text: string) {
  if (place === 'path') return request({ params: { color: text } });
  if (place === 'query') return request({ queryString: text });
  return request({ headers: place === 'header' ? { color: text } : { cookie: text } });
}

/** A schema of nothing but this value. */
function exactly(value: unknown): object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { enum: [value] };
  const properties = Object.entries(value).map(([name, member]) => [name, { enum: [member] }]);
  return { required: Object.keys(value), properties: Object.fromEntries(properties) };
}

describe('core/openapi/parameters', () => {
  for (const [place, style, explode, schema, text, expected] of EXAMPLES) {
    const shape = 'type' in schema ? String(schema.type) : '';
    it(`reads ${text} in ${place} as ${shape} of style ${style}${explode ? ', exploded' : ''}`, async () => {
      // Headers are passed on as they came; what was read of one shows in what its schema accepts.
      const wanted = place === 'header' ? { allOf: [schema, exactly(expected)] } : schema;
      const parameter = { name: 'color', in: place, required: true, style, explode, schema: wanted };
      const path = place === 'path' ? '/it/{color}' : '/it';
      const result = accepted((await oneOperation({ parameters: [parameter] }, { path })).read(send(place, text)));
      if (place === 'path') assert.deepEqual(result.params, { color: expected });
      if (place === 'query') assert.deepEqual(result.query, { color: expected });
      if (place === 'cookie') assert.deepEqual((result.cookies as Record<string, unknown>)['color'], expected);
    });
  }

  it('reads an exploded object from pairs of its own, beside those of other parameters', async () => {
    const operation = await oneOperation({
      parameters: [
        { name: 'color', in: 'query', schema: RGB },
        { name: 'page', in: 'query', schema: { type: 'integer' } },
      ],
    });
    const { query } = accepted(operation.read(request({ queryString: 'R=100&page=2&x=y&G=200' })));
    assert.deepEqual(query, { color: { R: 100, G: 200 }, page: 2, x: 'y' });
  });

  it('gives an open exploded object the pairs nobody else declares', async () => {
    const operation = await oneOperation({
      parameters: [
        { name: 'filter', in: 'query', schema: { type: 'object', additionalProperties: { type: 'integer' } } },
        { name: 'page', in: 'query', schema: { type: 'integer' } },
      ],
    });
    assert.deepEqual(accepted(operation.read(request({ queryString: 'a=1&page=2&b=3' }))).query, {
      filter: { a: 1, b: 3 },
      page: 2,
    });
    assert.deepEqual(refused(operation.read(request({ queryString: 'a=x' }))), ['/query/filter/a must be integer']);
  });

  it('lists every violation of every location, each with its pointer', async () => {
    const integer = { type: 'integer' };
    const operation = await oneOperation(
      {
        parameters: [
          { name: 'id', in: 'path', required: true, schema: integer },
          { name: 'page', in: 'query', schema: { ...integer, minimum: 1 } },
          { name: 'sort', in: 'query', required: true, schema: { enum: ['up', 'down'] } },
          { name: 'tags', in: 'query', schema: { type: 'array', items: integer, uniqueItems: true } },
          { name: 'X-Y', in: 'header', required: true, schema: integer },
          { name: 's', in: 'cookie', schema: { type: 'string', maxLength: 2 } },
        ],
        requestBody: { required: true, content: { 'application/json': {} } },
      },
      { path: '/it/{id}' },
    );
    const result = operation.read(
      request({ params: { id: 'x' }, queryString: 'page=0&tags=1&tags=b&z=%zz', headers: { cookie: 's=abc' } }),
    );
    assert.equal(result.ok ? '' : result.code, 'INVALID_REQUEST');
    assert.deepEqual([...refused(result)].sort(), [
      '/body is required',
      '/cookie/s must NOT have more than 2 characters',
      '/header/x-y is required',
      '/path/id must be integer',
      '/query/page must be >= 1',
      '/query/sort is required',
      '/query/tags/1 must be integer',
      '/query/z has malformed percent-encoding',
    ]);
  });

  it('coerces numbers and booleans, and refuses what only looks like them', async () => {
    const operation = await oneOperation({
      parameters: [
        { name: 'n', in: 'query', schema: { type: 'number' } },
        { name: 'b', in: 'query', schema: { type: 'boolean' } },
      ],
    });
    assert.deepEqual(accepted(operation.read(request({ queryString: 'n=-1.5e2&b=true' }))).query, { n: -150, b: true });
    for (const queryString of ['n=', 'n=1,5', 'n=one', 'b=1', 'b=yes', 'b=', 'n=1&n=2']) {
      assert.equal(operation.read(request({ queryString })).ok, false, queryString);
    }
  });

  it('fills in defaults, also those behind a reference, and none where a value came', async () => {
    const schemas = {
      Page: { type: 'integer', default: 7, minimum: 1 },
      List: { allOf: [{ $ref: '#/components/schemas/Page' }] },
    };
    const operation = await oneOperation(
      {
        parameters: [
          { name: 'a', in: 'query', schema: { type: 'array', items: { type: 'string' }, default: ['x'] } },
          { name: 'b', in: 'query', schema: { $ref: '#/components/schemas/Page' } },
          { name: 'c', in: 'query', schema: { $ref: '#/components/schemas/List' } },
        ],
      },
      { schemas },
    );
    assert.deepEqual(accepted(operation.read(request())).query, { a: ['x'], b: 7, c: 7 });
    assert.deepEqual(accepted(operation.read(request({ queryString: 'b=8&c=9&a=y' }))).query, { a: ['y'], b: 8, c: 9 });
  });

  it('checks a coerced value also behind references and combinations', async () => {
    const schemas = { Number: { type: 'integer' } };
    const schema = { allOf: [{ $ref: '#/components/schemas/Number' }, { minimum: 5 }] };
    const operation = await oneOperation({ parameters: [{ name: 'n', in: 'query', schema }] }, { schemas });
    assert.deepEqual(accepted(operation.read(request({ queryString: 'n=5' }))).query, { n: 5 });
    assert.deepEqual(refused(operation.read(request({ queryString: 'n=4' }))), ['/query/n must be >= 5']);
  });

  it('reads a parameter with JSON content as JSON', async () => {
    const content = { 'application/json': { schema: { type: 'object', required: ['a'] } } };
    const operation = await oneOperation({ parameters: [{ name: 'q', in: 'query', content }] });
    const queryString = `q=${encodeURIComponent('{"a":[1,"&"]}')}`;
    assert.deepEqual(accepted(operation.read(request({ queryString }))).query, { q: { a: [1, '&'] } });
    assert.deepEqual(refused(operation.read(request({ queryString: 'q=%7B' }))), ['/query/q is not JSON']);
    assert.deepEqual(refused(operation.read(request({ queryString: 'q=%7B%7D' }))), ['/query/q/a is required']);
  });

  it('takes an empty value where the document allows it', async () => {
    const parameter = { name: 'n', in: 'query', required: true, schema: { type: 'integer' }, allowEmptyValue: true };
    const operation = await oneOperation({ parameters: [parameter] });
    assert.deepEqual(accepted(operation.read(request({ queryString: 'n' }))).query, { n: '' });
    assert.deepEqual(accepted(operation.read(request({ queryString: 'n=4' }))).query, { n: 4 });
    assert.deepEqual(refused(operation.read(request())), ['/query/n is required']);
  });

  it('passes undeclared query parameters and cookies on as text', async () => {
    const operation = await oneOperation({});
    const result = accepted(
      operation.read(request({ queryString: 'a=1&b=x%20y+z&a=2&&=e', headers: { cookie: 'c="d"; e=f=g' } })),
    );
    assert.deepEqual(result.query, { a: ['1', '2'], b: 'x y z', '': 'e' });
    assert.deepEqual(result.cookies, { c: 'd', e: 'f=g' });
  });

  it('keeps names every object has apart from what was sent', async () => {
    const parameters = ['constructor', 'toString'].map((name) => {
      return { name, in: 'query', required: true, schema: { type: 'string' } };
    });
    const operation = await oneOperation({ parameters });
    assert.deepEqual([...refused(operation.read(request()))].sort(), [
      '/query/constructor is required',
      '/query/toString is required',
    ]);
    const result = operation.read(request({ queryString: 'constructor=a&__proto__=b&toString=c&hasOwnProperty=d' }));
    assert.equal(
      JSON.stringify(result.ok && result.query),
      '{"constructor":"a","toString":"c","__proto__":"b","hasOwnProperty":"d"}',
    );
  });

  it('ignores declared content-type, accept and authorization headers, as the specification says', async () => {
    const parameters = ['Content-Type', 'Accept', 'Authorization'].map((name) => {
      return { name, in: 'header', required: true, schema: { type: 'integer' } };
    });
    assert.equal((await oneOperation({ parameters })).read(request()).ok, true);
  });

  it('refuses a query of more pairs than it reads', async () => {
    const operation = await oneOperation({});
    const queryString = Array.from({ length: 1_001 }, (_, index) => `p${index}=1`).join('&');
    assert.deepEqual(refused(operation.read(request({ queryString }))), ['/query has more than 1000 pairs']);
  });

  it('gives back any text and any list a client encodes', async () => {
    const operation = await oneOperation({
      parameters: [
        { name: 't', in: 'query', schema: { type: 'string' } },
        { name: 'l', in: 'query', schema: COLORS, explode: false },
        { name: 'm', in: 'query', schema: COLORS },
        { name: 'p', in: 'query', schema: COLORS, style: 'pipeDelimited', explode: false },
      ],
    });
    const text = fc.string({ unit: 'grapheme', minLength: 1 });
    fc.assert(
      fc.property(
        text,
        fc.array(text, { minLength: 1 }),
        fc.array(fc.stringMatching(/^[^|]+$/u), { minLength: 1 }),
        (t, l, p) => {
          const list = l.map(encodeURIComponent);
          const pipes = p.map(encodeURIComponent).join('|');
          const queryString = `t=${encodeURIComponent(t)}&l=${list.join(',')}&${list.map((each) => `m=${each}`).join('&')}&p=${pipes}`;
          assert.deepEqual(accepted(operation.read(request({ queryString }))).query, { t, l, m: l, p });
        },
      ),
    );
  });

  it('reads what URLSearchParams writes, and never throws whatever the query is', async () => {
    const operation = await oneOperation({});
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(fc.string(), fc.string()), { selector: ([name]) => name }), (pairs) => {
        const sent = pairs.filter(([name, value]) => name !== '' || value !== '');
        const { query } = accepted(operation.read(request({ queryString: new URLSearchParams(sent).toString() })));
        assert.deepEqual(new Map(Object.entries(query as object)), new Map(sent));
      }),
    );
    fc.assert(
      fc.property(fc.string(), fc.string(), (queryString, cookie) => {
        assert.equal(typeof operation.read(request({ queryString, headers: { cookie } })).ok, 'boolean');
      }),
    );
  });
});
