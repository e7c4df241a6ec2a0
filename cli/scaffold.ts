/** The files of a first bundle, by name. */
export function scaffold(name: string): ReadonlyMap<string, string> {
  return new Map([
    ['funcatron.yaml', documentOf(name)],
    ['index.ts', CODE],
    ['package.json', `${JSON.stringify({ name, private: true, type: 'module' }, null, 2)}\n`],
  ]);
}

/** `My Bundle` → `my-bundle`: what a bundle may be called. */
export function slugOf(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 63);
}

function documentOf(name: string): string {
  return `openapi: 3.1.0
info:
  title: ${name}
  version: 1.0.0
servers:
  - url: /${name} # every path below begins with it
x-funcatron:
  name: ${name}
paths:
  /greet/{name}:
    get:
      operationId: greet # the export of index.ts that answers
      parameters:
        - { name: name, in: path, required: true, schema: { type: string } }
        - { name: times, in: query, schema: { type: integer, minimum: 1, maximum: 10, default: 1 } }
      responses:
        '200':
          description: The greeting
          content:
            application/json:
              schema:
                type: object
                properties:
                  text: { type: string }
`;
}

const CODE = `import type { Func } from 'funcatron';

/** Parameters arrive checked against funcatron.yaml, with its types and defaults. */
export const greet: Func = (event, context) => {
  const { name } = event.params;
  context.log.info('greeting', { name });
  return { text: \`Hello, \${name}! \`.repeat(event.query.times).trim() };
};
`;
