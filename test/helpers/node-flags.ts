import { readFileSync } from 'node:fs';

/** What `bin/funcatron` starts Node with for a role. */
export const NODE_FLAGS = JSON.parse(
  readFileSync(new URL('../../bin/node-flags.json', import.meta.url), 'utf8'),
) as readonly string[];
