import assert from 'node:assert/strict';
import fc from 'fast-check';
import { matchesTopic } from '../../../core/broker/memory-exchange.ts';

describe('core/broker/memory-exchange', () => {
  const cases: [pattern: string, key: string, matches: boolean][] = [
    ['z.#', 'z', true],
    ['z.#', 'z.a.b', true],
    ['z.#', 'za', false],
    ['z.*', 'z', false],
    ['z.*', 'z.a', true],
    ['z.*', 'z.a.b', false],
    ['*', '', false],
    ['#', '', true],
    ['', '', true],
    ['*', 'a', true],
    ['a.*', 'a.', true],
    ['#.b', 'a.b.b', true],
    ['#.b.#', 'a.b.c', true],
    ['a.#.z', 'a.z', true],
    ['*.#', 'a', true],
    ['#.#', '', true],
    ['a.#.b.*', 'a.b.b.b.c', true],
    ['A', 'a', false],
  ];
  for (const [pattern, key, matches] of cases) {
    it(`"${pattern}" ${matches ? 'takes' : 'does not take'} "${key}", as in RabbitMQ`, () => {
      assert.equal(matchesTopic(words(pattern), words(key)), matches);
    });
  }

  it('agrees with the definition of topic matching', () => {
    const pattern = fc.array(fc.constantFrom('a', 'b', '', '*', '#', '#'), { maxLength: 8 });
    const key = fc.array(fc.constantFrom('a', 'b', ''), { maxLength: 8 });
    fc.assert(
      fc.property(pattern, key, (p, k) => assert.equal(matchesTopic(p, k), matchesByDefinition(p, k))),
      {
        numRuns: 2_000,
      },
    );
  });

  it('answers at once where many # could match in many ways', () => {
    const pattern = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? '#' : 'a'));
    const key = [...Array.from({ length: 120 }, () => 'a'), 'b'];
    assert.equal(matchesTopic(pattern, key), false, 'nothing takes the b at the end');
    assert.equal(matchesTopic([...pattern, '#'], key), true);
  });
});

function words(key: string): string[] {
  return key === '' ? [] : key.split('.');
}

function matchesByDefinition(pattern: readonly string[], key: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return key.length === 0;
  if (first === '#')
    return matchesByDefinition(rest, key) || (key.length > 0 && matchesByDefinition(pattern, key.slice(1)));
  return key.length > 0 && (first === '*' || first === key[0]) && matchesByDefinition(rest, key.slice(1));
}
