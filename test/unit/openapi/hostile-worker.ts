import { parentPort } from 'node:worker_threads';
import { FORMAT_NAMES } from '../../../core/openapi/formats.ts';
import { oneOperation, post } from './one-operation.ts';

const JSON_TYPE = 'application/json';

/** Patterns that take V8's engine exponential or high polynomial time. */
const PATTERNS = [
  '^(a+)+$',
  '^(a|a)*$',
  '^(a|aa)+$',
  '^(.*a){12}$',
  '(x+x+)+y',
  '^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*$',
  '(?:a{1,40}){1,20}b',
];

const PIECES = [
  'a',
  '1',
  '.',
  '-',
  ':',
  '/',
  '@',
  '%20',
  '%',
  '{',
  '[',
  '::',
  'a.',
  'a-',
  'a@',
  '1:',
  '~0',
  '0.',
  'P1Y',
  '\u00e4',
  '=',
  'AAAA',
  ' ',
];
const ENDS = ['', '!', '\n', '\0'];
const STARTS = ['', 'http://', 'a@', '/', 'P', '{', '2020-01-01T', '['];

async function tryPatterns(): Promise<number> {
  let tried = 0;
  for (const pattern of PATTERNS) {
    const operation = await oneOperation({
      requestBody: { required: true, content: { [JSON_TYPE]: { schema: { type: 'string', pattern } } } },
    });
    for (const length of [40, 5_000, 300_000]) {
      operation.read(post(JSON_TYPE, JSON.stringify(`${'a'.repeat(length)}!`)));
      operation.read(post(JSON_TYPE, JSON.stringify(`${'x'.repeat(length)}!`)));
      tried += 2;
    }
  }
  return tried;
}

async function tryFormats(): Promise<number> {
  let tried = 0;
  for (const format of FORMAT_NAMES) {
    const operation = await oneOperation({
      requestBody: { required: true, content: { [JSON_TYPE]: { schema: { type: 'string', format } } } },
    });
    for (const start of STARTS) {
      for (const piece of PIECES) {
        for (const end of ENDS) {
          operation.read(post(JSON_TYPE, JSON.stringify(start + piece.repeat(Math.ceil(4_000 / piece.length)) + end)));
          tried++;
        }
      }
    }
    for (const piece of PIECES) {
      operation.read(post(JSON_TYPE, JSON.stringify(`${piece.repeat(Math.ceil(300_000 / piece.length))}!`)));
      tried++;
    }
  }
  return tried;
}

/** Definitions that double at each step, and bodies that make a natural schema double at each level. */
async function trySchemas(): Promise<number> {
  const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
  const schemas: Record<string, object> = { Leaf: { type: 'object' }, A0: { allOf: [ref('Leaf'), ref('Leaf')] } };
  for (let level = 1; level < 40; level++)
    schemas[`A${level}`] = { allOf: [ref(`A${level - 1}`), ref(`A${level - 1}`)] };
  const bomb = await oneOperation({ requestBody: { content: { [JSON_TYPE]: { schema: ref('A39') } } } }, { schemas });
  bomb.read(post(JSON_TYPE, '{}'));
  const child = { type: 'object', properties: { child: ref('Tree') } };
  const tree = {
    anyOf: [
      { ...child, required: ['x'] },
      { ...child, required: ['y'] },
    ],
  };
  const natural = await oneOperation(
    { requestBody: { content: { [JSON_TYPE]: { schema: ref('Tree') } } } },
    { schemas: { Tree: tree } },
  );
  natural.read(post(JSON_TYPE, '{"child":'.repeat(60) + '{}' + '}'.repeat(60)));
  const unique = await oneOperation({
    requestBody: { content: { [JSON_TYPE]: { schema: { type: 'array', uniqueItems: true } } } },
  });
  unique.read(post(JSON_TYPE, JSON.stringify(Array.from({ length: 60_000 }, (_, index) => ({ a: index })))));
  return 3;
}

const attempts = { patterns: tryPatterns, formats: tryFormats, schemas: trySchemas };

parentPort?.once('message', (name: keyof typeof attempts) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  void attempts[name]().then((tried) => parentPort?.postMessage(tried));
});
