import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder funcatron is installed in: the checkout, or the package. */
export function packageRoot(): string {
  let folder = dirname(import.meta.dirname);
  // Compiled code lies in dist/cli.
  if (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

/** The sample bundles that come along, by folder. */
export const sampleNames = ['hello', 'pets', 'queue-worker', 'thumb'] as const;
