import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './processes.ts';

/** Folder of a peer with the packages its own lockfile names; installs them when they are not there. */
export function installPeer(name: string): string {
  const folder = join(root, 'bench/peers', name);
  const lockfile = createHash('sha256')
    .update(readFileSync(join(folder, 'package-lock.json')))
    .digest('hex');
  const stamp = join(folder, 'node_modules/.lockfile-sha256');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lockfile) return folder;
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const { status } = spawnSync('npm', args, { cwd: folder, stdio: ['ignore', 2, 'inherit'] });
  if (status !== 0) throw new Error(`npm ci in ${folder} ended with ${status}`);
  writeFileSync(stamp, lockfile);
  return folder;
}
