import type { JsonObject } from '../core/openapi/api.ts';
import { isObject, listAt, objectAt, textAt } from '../core/openapi/json.ts';

const METHODS = ['get', 'post', 'put', 'delete'] as const;

const STYLE = `
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  summary { cursor: pointer; padding: .25rem 0 }
  code { font: .9rem ui-monospace, monospace }
  .method { display: inline-block; min-width: 4.5rem; font-weight: 600 }
  pre { overflow: auto; padding: .75rem; border: 1px solid color-mix(in srgb, currentColor 25%, transparent) }`;

/** The management API as one self-contained page: no scripts, nothing fetched, all text escaped. */
export function renderDocs(document: JsonObject): string {
  const info = objectAt(document, 'info');
  const sections = listAt(document, 'tags').map((tag) => {
    const name = textAt(tag, 'name') ?? '';
    const operations = operationsOf(document).filter(({ operation }) => listAt(operation, 'tags').includes(name));
    return `<h2>${escape(name)}</h2><p>${escape(textAt(tag, 'description') ?? '')}</p>${operations.map(renderOperation).join('')}`;
  });
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(textAt(info, 'title') ?? '')}</title>
<style>${STYLE}</style>
<h1>${escape(textAt(info, 'title') ?? '')}</h1>
<p>${escape(textAt(info, 'description') ?? '')} The source: <a href="/v1/openapi.json">openapi.json</a>.</p>
${sections.join('\n')}
</html>
`;
}

interface Documented {
  readonly method: string;
  readonly path: string;
  readonly operation: JsonObject;
}

function operationsOf(document: JsonObject): readonly Documented[] {
  return Object.entries(objectAt(document, 'paths')).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = isObject(item) ? item[method] : undefined;
      return isObject(operation) ? [{ method, path, operation }] : [];
    }),
  );
}

function renderOperation({ method, path, operation }: Documented): string {
  const { tags: _tags, summary: _summary, description: _description, ...rest } = operation;
  return `<details><summary><code class="method">${method.toUpperCase()}</code> <code>/v1${escape(path)}</code> ${escape(
    textAt(operation, 'summary') ?? '',
  )}</summary><p>${escape(textAt(operation, 'description') ?? '')}</p><pre>${escape(JSON.stringify(rest, null, 2))}</pre></details>
`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escape(text: string): string {
  return text.replaceAll(/[&<>"]/g, (character) => ENTITIES[character] ?? character);
}
