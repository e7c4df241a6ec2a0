import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const root = join(import.meta.dirname, '../..');
const sources = globSync('{sdk,core,frontend,tron,runner,cli}/**/*.ts', { cwd: root }).toSorted();

/** What each area may import from, beside itself. */
const below: Readonly<Record<string, readonly string[]>> = {
  sdk: [],
  core: ['sdk'],
  frontend: ['sdk', 'core'],
  tron: ['sdk', 'core'],
  runner: ['sdk', 'core'],
  cli: ['sdk', 'core', 'frontend', 'tron', 'runner'],
};

/** Packages with one home each. */
const homes: Readonly<Record<string, RegExp>> = {
  // The cluster's own, and the servers of bundles.
  amqplib: /^(?:core\/broker\/amqp[a-z-]*|runner\/services\/amqp)\.ts$/,
  ioredis: /^(?:core\/store|runner\/services)\/redis\.ts$/,
  pg: /^runner\/services\/postgres[a-z-]*\.ts$/,
  piscina: /^runner\/isolate\/thread-host\.inside\.ts$/,
  'isolated-vm': /^runner\/isolate\/strict[a-z.-]*\.ts$/,
  '@apidevtools/swagger-parser': /^core\/openapi\//,
  'js-yaml': /^core\/openapi\//,
  ajv: /^core\/openapi\//,
  'ajv-draft-04': /^core\/openapi\//,
  'ajv-formats': /^core\/openapi\//,
  'prom-client': /^core\/metrics\.ts$/,
  pino: /^core\/log\.ts$/,
  commander: /^cli\//,
  esbuild: /^core\/bundle\/pack[a-z-]*\.ts$/,
  'tar-stream': /^core\/bundle\/archive[a-z-]*\.ts$/,
};

function importsOf(file: string): readonly string[] {
  const text = readFileSync(join(root, file), 'utf8').replaceAll(/^\s*(?:\/\/|\*|\/\*).*$/gm, '');
  return [...text.matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|\bimport\s+)'([^']+)'/g)].map((match) => match[1] ?? '');
}

function lines(file: string): number {
  return readFileSync(join(root, file), 'utf8').split('\n').length - 1;
}

describe('imports', () => {
  it('go downward only: sdk ← core ← {frontend, tron, runner} ← cli', () => {
    const wrong = sources.flatMap((file) => {
      const area = file.split('/')[0] ?? '';
      return importsOf(file)
        .filter((name) => name.startsWith('.'))
        .map((name) => relative(root, join(root, dirname(file), name)))
        .filter(
          (target) =>
            !target.startsWith(`${area}/`) && !below[area]?.some((allowed) => target.startsWith(`${allowed}/`)),
        )
        .filter((target) => !target.endsWith('.json'))
        .map((target) => `${file} → ${target}`);
    });
    assert.deepEqual(wrong, []);
  });

  it('keep every package with one home in that home', () => {
    const wrong = sources.flatMap((file) =>
      importsOf(file)
        .filter((name) =>
          Object.entries(homes).some(
            ([home, allowed]) => (name === home || name.startsWith(`${home}/`)) && !allowed.test(file),
          ),
        )
        .map((name) => `${file} imports ${name}`),
    );
    assert.deepEqual(wrong, []);
  });

  it('leave the sdk without dependencies', () => {
    const wrong = sources
      .filter((file) => file.startsWith('sdk/'))
      .flatMap((file) => importsOf(file).filter((name) => !name.startsWith('.')));
    assert.deepEqual(wrong, []);
  });
});

describe('source files', () => {
  it('have at most 400 lines', () => {
    const long = sources.filter((file) => lines(file) > 400).map((file) => `${file}: ${lines(file)}`);
    assert.deepEqual(long, []);
  });

  it('read the environment in core/config.ts only', () => {
    // Inside files run in the guest's process, where the environment is empty; the command line passes `process.env` of its own children.
    const readers = sources
      .filter((file) => /process\.env\b/.test(readFileSync(join(root, file), 'utf8')))
      .filter((file) => !file.startsWith('cli/') && !file.endsWith('.inside.ts'));
    assert.deepEqual(readers, ['core/config.ts']);
  });

  it('hold no path of a machine, no left-over marks and no focused or skipped tests', () => {
    const all = globSync('{sdk,core,frontend,tron,runner,cli,test,bundles,bench,tools}/**/*.{ts,mjs}', {
      cwd: root,
      exclude: (name) => /node_modules|peers/.test(name),
    });
    const marks = new RegExp(
      [
        'TO' + 'DO',
        'FIX' + 'ME',
        'XX' + 'X',
        String.raw`\b(?:it|describe)\.(?:only|skip)\(`,
        '/ro' + 'ot/',
        '/wo' + 'rk/',
      ].join('|'),
    );
    const wrong = all.filter((file) => marks.test(readFileSync(join(root, file), 'utf8')));
    assert.deepEqual(wrong, []);
  });
});
