import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { load } from 'js-yaml';
import {
  CALL_EXCHANGE,
  callKey,
  callTopology,
  deadQueue,
  RESERVED_PREFIXES,
  RETRY_RUNGS_MS,
} from '../../core/wire/topology.ts';
import { CallHeader, DeadHeader, ReplyHeader } from '../../runner/triggers/headers.ts';

interface Node {
  readonly [key: string]: Node;
}

const root = join(import.meta.dirname, '../..');
const text = readFileSync(join(root, 'swagger/asyncapi.yaml'), 'utf8');
const document = load(text) as Node;

/** The node at `a/b/c`. */
function at(path: string): Node {
  let node: Node | undefined = document;
  for (const key of path.split('/')) node = node?.[key];
  return node ?? assert.fail(`the document has no ${path}`);
}

function textAt(path: string): string {
  const value: unknown = at(path);
  return typeof value === 'string' ? value : assert.fail(`${path} is no text`);
}

function namesOf(schema: Node): readonly string[] {
  const patterns = Object.keys(schema['patternProperties'] ?? {}).map((pattern) => /^\^(.*)\.\+\$$/.exec(pattern)?.[1]);
  return [...Object.keys(schema['properties'] ?? {}), ...patterns].map(String).toSorted((a, b) => a.localeCompare(b));
}

function sorted(names: readonly string[]): readonly string[] {
  return names.toSorted((a, b) => a.localeCompare(b));
}

describe('swagger/asyncapi.yaml', () => {
  it('is AsyncAPI 3.0 whose references lead somewhere', () => {
    assert.equal(document['asyncapi'], '3.0.0');
    const references = [...text.matchAll(/\$ref: '#\/([^']+)'/g)].map(([, path = '']) => path);
    assert.notEqual(references.length, 0);
    for (const path of references) assert.ok(at(path), path);
  });

  it('names the exchange as it is declared, and the routing key as it is made', () => {
    const { name, type, durable } = at('channels/call/bindings/amqp/exchange');
    const declared = callTopology.exchanges?.find((exchange) => exchange.name === CALL_EXCHANGE);
    assert.deepEqual(
      { name, type, durable },
      { name: CALL_EXCHANGE, type: declared?.type, durable: declared?.durable },
    );
    assert.equal(at('channels/call')['address'], callKey('{bundle}', '{operationId}'));
  });

  it('names the queue of dead letters', () => {
    assert.equal(at('channels/dead')['address'], deadQueue('{bundle}'));
    assert.equal(at('channels/dead/bindings/amqp/queue')['name'], deadQueue('{bundle}'));
  });

  it('has exactly the headers that are read and written', () => {
    assert.deepEqual(namesOf(at('components/schemas/CallHeaders')), sorted(Object.values(CallHeader)));
    assert.deepEqual(namesOf(at('components/schemas/ReplyHeaders')), sorted(Object.values(ReplyHeader)));
    assert.deepEqual(namesOf(at('components/schemas/DeadHeaders')), sorted(Object.values(DeadHeader)));
  });

  it('says which names reply_to may not have, and how long retries wait', () => {
    for (const description of [textAt('channels/reply/description'), textAt('info/description')]) {
      for (const prefix of RESERVED_PREFIXES) assert.ok(description.includes(`\`${prefix}\``), prefix);
    }
    assert.match(textAt('info/description'), /rungs of 1 s, doubling, up to 1 h/);
    assert.equal(RETRY_RUNGS_MS[0], 1_000);
    assert.equal(RETRY_RUNGS_MS.at(-1), 3_600_000);
  });
});
