/**
 * The page at `/_funcatron/docs`: what the live bundles answer, read from `openapi.json` next to it. Self-contained;
 * everything from the document enters as text, never as markup.
 */
export const DOCS_PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Live bundles</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  summary { cursor: pointer; padding: .25rem 0 }
  code { font: .9rem ui-monospace, monospace }
  .method { display: inline-block; min-width: 4.5rem; font-weight: 600 }
  pre { overflow: auto; padding: .75rem; border: 1px solid color-mix(in srgb, currentColor 25%, transparent) }
</style>
<h1>Live bundles</h1>
<p>From <a href="openapi.json">openapi.json</a>.</p>
<main></main>
<script type="module">
  const main = document.querySelector('main');
  const add = (parent, name, text = '') => {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const api = await (await fetch('openapi.json')).json();
  for (const tag of api.tags) {
    add(main, 'h2', tag.name);
    add(main, 'p', tag.description);
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(item)) {
        if (operation.tags[0] !== tag.name) continue;
        const details = add(main, 'details');
        const summary = add(details, 'summary');
        add(summary, 'code', method.toUpperCase()).className = 'method';
        add(summary, 'code', path);
        summary.append(' ', operation.summary ?? '');
        const { tags, summary: _, ...rest } = operation;
        add(details, 'pre', JSON.stringify(rest, null, 2));
      }
    }
  }
  if (api.tags.length === 0) add(main, 'p', 'No bundle is live yet.');
</script>
`;
