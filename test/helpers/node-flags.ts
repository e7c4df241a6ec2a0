import { readFileSync } from 'node:fs';

const byRole = JSON.parse(readFileSync(new URL('../../bin/node-flags.json', import.meta.url), 'utf8')) as Readonly<
  Record<string, readonly string[]>
>;

/** What `bin/funcatron` starts Node with for a role. */
export function nodeFlags(role: string): readonly string[] {
  return byRole[role] ?? [];
}
