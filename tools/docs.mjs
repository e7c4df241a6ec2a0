// Writes the documents that are generated from tables in the code: docs/errors.md and docs/config.md.
// `--check` writes nothing and fails when one is out of date. Runs on the project's Node.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONFIG, envOf, flagOf } from '../core/config.ts';
import { ERRORS } from '../core/errors.ts';

const root = join(import.meta.dirname, '..');

function errors() {
  const rows = Object.entries(ERRORS).map(
    ([code, row]) =>
      `| \`${code}\` | ${row.status} | ${row.meaning} | ${row.retryable ? 'yes' : 'no'} | ${row.mayHaveRun ? 'yes' : 'no'} |`,
  );
  return `# Errors

Every error, from every door, is \`application/problem+json\` (RFC 9457) with \`code\`, \`detail\` and, where there is one,
\`callId\`; never a stack. *Retry helps*: the same request can succeed later without anybody changing anything.
*May have run*: the func may have run, so a retry is safe only for an idempotent operation.

Generated from \`core/errors.ts\` by \`npm run docs\`.

| code | status | meaning | retry helps | may have run |
|---|--:|---|---|---|
${rows.join('\n')}
`;
}

/** @param {{ default: string | number | boolean, unit?: string, secret?: boolean }} row */
function shown(row) {
  if (row.default === '') return '(empty)';
  return row.unit === 'bytes' || row.unit === 'ms' ? `${row.default} ${row.unit}` : String(row.default);
}

function config() {
  const rows = /** @type {(keyof typeof CONFIG)[]} */ (Object.keys(CONFIG)).map((key) => {
    const row = CONFIG[key];
    return `| \`${flagOf(key)}\` | \`${envOf(key)}\` | \`${shown(row)}\` | ${row.text} |`;
  });
  return `# Configuration

Flags come before environment variables, these before defaults. Each variable has a twin that ends in \`_FILE\` and names
a file holding the value. All bad values are reported at once, at start.

Generated from \`core/config.ts\` by \`npm run docs\`.

| flag | variable | default | what it is |
|---|---|---|---|
${rows.join('\n')}
`;
}

let stale = false;
for (const [name, text] of [
  ['docs/errors.md', errors()],
  ['docs/config.md', config()],
]) {
  const path = join(root, name);
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue;
  stale = true;
  if (process.argv.includes('--check')) process.stderr.write(`${name} is out of date: run npm run docs\n`);
  else writeFileSync(path, text);
}
process.exitCode = stale && process.argv.includes('--check') ? 1 : 0;
