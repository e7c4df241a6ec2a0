import { pointerTokens } from './json.ts';
import { nearestWord } from './nearest.ts';

/** What the members of a document that are most often missing or written otherwise look like. */
const EXAMPLES: Readonly<Record<string, string>> = {
  info: '{ title: Shop, version: 1.0.0 }',
  title: 'Shop',
  version: '1.0.0',
  servers: '[{ url: /shop }]',
  paths: '{ /orders: { get: { operationId: getOrders } } }',
  parameters: '[{ name: id, in: path, required: true, schema: { type: string } }]',
  name: 'id',
  required: 'true',
  schema: '{ type: string }',
  content: '{ application/json: { schema: { type: object } } }',
  requestBody: '{ content: { application/json: { schema: { type: object } } } }',
  responses: "{ '200': { description: the order } }",
  description: 'the order',
  type: 'string',
  items: '{ type: string }',
  properties: '{ name: { type: string } }',
  components: '{ schemas: { Order: { type: object } } }',
};

/** Other members a slip of the finger may have meant. */
const MEMBERS =
  'get put post delete options head patch trace operationId summary tags security deprecated in enum default format minimum maximum minLength maxLength pattern additionalProperties schemas basePath host consumes produces definitions'.split(
    ' ',
  );

/** What to do about a problem of a document whose finder knew no better: by the member it is at. */
export function documentHint(pointer: string | undefined): string {
  const key = pointerTokens(pointer ?? '').at(-1) ?? '';
  if (Object.hasOwn(EXAMPLES, key)) return `For example ${key}: ${EXAMPLES[key]}`;
  const nearest = MEMBERS.includes(key) ? undefined : nearestWord(key, [...Object.keys(EXAMPLES), ...MEMBERS]);
  return nearest === undefined ? 'https://spec.openapis.org/oas says what may stand here.' : `Did you mean ${nearest}?`;
}
