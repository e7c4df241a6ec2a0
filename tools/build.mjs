// Compiles the sources into dist/, for images, packages and benchmarks: `npm run build`.
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');

for (const area of ['sdk', 'core', 'frontend', 'tron', 'runner', 'cli', 'swagger']) {
  rmSync(join(root, 'dist', area), { recursive: true, force: true });
}
for (const args of [
  [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json'],
  [join(root, 'tools', 'build-inside.mjs')],
]) {
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
// Documents are read beside the code: dist/tron/… finds dist/swagger/… as tron/… finds swagger/….
cpSync(join(root, 'swagger'), join(root, 'dist', 'swagger'), { recursive: true });
