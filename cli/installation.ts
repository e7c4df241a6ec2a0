import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Terminal } from './terminal.ts';

/** The folder funcatron is installed in: the checkout, or the package. */
export function packageRoot(): string {
  let folder = dirname(import.meta.dirname);
  // Compiled code lies in dist/cli.
  if (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

/** The sample bundles that come along, by folder. */
export const sampleNames = ['hello', 'pets', 'queue-worker', 'thumb'] as const;

interface InsideBuilder {
  readonly buildInside: () => Promise<unknown>;
  readonly isFresh: () => boolean;
}

/**
 * In a checkout: builds what runs inside workers where it is missing or older than its sources, so that a verb that
 * starts workers does not depend on `npm start` having run before. A package has it built.
 */
export async function prepareWorkers(terminal: Terminal): Promise<void> {
  if (!import.meta.filename.endsWith('.ts')) return;
  const tool = pathToFileURL(join(packageRoot(), 'tools', 'build-inside.mjs')).href;
  const { buildInside, isFresh } = (await import(tool)) as InsideBuilder;
  if (isFresh()) return;
  terminal.say('building what runs inside workers, once');
  await buildInside();
}
