import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join, relative, resolve } from 'node:path';
import type { Command } from 'commander';
import type { PackedBundle } from '../core/bundle/pack.ts';
import { FuncatronError } from '../core/errors.ts';
import { printProblem } from './failure.ts';
import type { Terminal } from './terminal.ts';

/** `funcatron init | validate | pack`: what a bundle's author does before a deploy; needs no cluster. */
export function registerAuthor(program: Command, terminal: Terminal): void {
  program
    .command('init')
    .description('Begin a bundle: a document, a func, nothing else.')
    .argument('<folder>', 'a new or empty folder')
    .option('--name <name>', 'what the bundle is called; default: the folder')
    .addHelpText('after', '\nExample:\n  funcatron init hello && funcatron deploy hello')
    .action((folder: string, options: { name?: string }) => init(folder, options.name, terminal));
  program
    .command('validate')
    .description('Check a bundle: its document, its code, and that they agree. Deploys nothing.')
    .argument('[folder]', 'the bundle', '.')
    .option('--json', 'print what was found as JSON')
    .action((folder: string, options: { json?: true }) => validate(folder, options.json === true, terminal));
  program
    .command('pack')
    .description('Make the archive that `deploy` uploads.')
    .argument('[folder]', 'the bundle', '.')
    .option('-o, --output <file>', 'default: <name>-<revision>.tgz here')
    .option('--json', 'print what was made as JSON')
    .action((folder: string, options: { output?: string; json?: true }) => packToFile(folder, options, terminal));
}

/**
 * Packs a folder and shows its warnings.
 * @throws INVALID_BUNDLE
 */
export async function packFolder(folder: string, terminal: Terminal): Promise<PackedBundle> {
  const { packBundle } = await import('../core/bundle/pack.ts');
  const packed = await packBundle(folder);
  for (const warning of packed.warnings) {
    terminal.say(`${terminal.paint('yellow', 'warning')}: ${packed.manifest.name}`);
    printProblem(terminal, warning);
  }
  return packed;
}

async function init(folder: string, givenName: string | undefined, terminal: Terminal): Promise<void> {
  const { scaffold, slugOf } = await import('./scaffold.ts');
  const root = resolve(folder);
  const name = givenName ?? slugOf(basename(root));
  if (name === '' || name !== slugOf(name)) {
    throw new FuncatronError('INVALID_CONFIG', `a bundle cannot be called "${name}"`, {
      data: { hint: 'use 1 to 63 of a-z, 0-9 and -: --name my-bundle' },
    });
  }
  const files = scaffold(name);
  const taken = [...files.keys()].filter((file) => existsSync(join(root, file)));
  if (taken.length > 0) {
    throw new FuncatronError('INVALID_CONFIG', `${root} has ${taken.join(' and ')} already; nothing was written`, {
      data: { hint: 'name another folder' },
    });
  }
  await mkdir(root, { recursive: true });
  for (const [file, text] of files) {
    await writeFile(join(root, file), text);
    terminal.out(join(folder, file));
  }
  const quoted = /^[\w./-]+$/.test(folder) ? folder : `'${folder}'`;
  terminal.say(`\nnext:  funcatron deploy ${quoted}     (a cluster: funcatron up)`);
}

async function validate(folder: string, json: boolean, terminal: Terminal): Promise<void> {
  const { api, manifest, revision, warnings } = await packFolder(folder, terminal).catch((error: unknown) => {
    if (json && error instanceof FuncatronError) terminal.out(JSON.stringify(error.data, null, 2));
    throw error;
  });
  const operations = api.operations.map(({ operationId, method, path, http }) => ({
    operationId,
    method,
    path: api.basePath + path,
    http,
  }));
  if (json) {
    terminal.out(JSON.stringify({ bundle: manifest.name, revision, operations, warnings }, null, 2));
    return;
  }
  terminal.out(`${manifest.name} @ ${revision} is a good bundle`);
  for (const { operationId, method, path, http } of operations) {
    terminal.out(`  ${http ? `${method} ${path}` : `queue ${manifest.name}.${operationId}`} → ${operationId}`);
  }
}

async function packToFile(
  folder: string,
  options: { readonly output?: string; readonly json?: true },
  terminal: Terminal,
): Promise<void> {
  const { archive, digest, revision, manifest } = await packFolder(folder, terminal);
  const file = options.output ?? `${manifest.name}-${revision}.tgz`;
  await writeFile(file, archive);
  if (options.json === true) {
    terminal.out(JSON.stringify({ file, bundle: manifest.name, revision, digest, bytes: archive.length }, null, 2));
    return;
  }
  terminal.out(relative('.', resolve(file)));
  terminal.say(`${manifest.name} @ ${revision}, ${archive.length} bytes\nnext:  funcatron deploy ${file}`);
}
