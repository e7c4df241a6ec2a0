/**
 * Builds what runs inside a worker's process into dist/inside: `host.cjs` (the process), `guest.js` (the bootstrap of the
 * guest's realm, a script whose value is the bridge), `parse.cjs` (acorn, loaded when a bundle needs it) and
 * `guest.cache` (V8's code cache of the guest, made by the project's Node; another Node does without). For other
 * runtimes: `node.cjs` (the process) with `sdk.mjs` (what bundles import as funcatron), and `python.py` as it is.
 * Does nothing when the outputs are newer than every input. Runs on Node ≥ 18.
 *
 *   node tools/build-inside.mjs
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const source = join(root, 'runner', 'isolate');
const runtimes = join(root, 'runner', 'runtimes');
const target = join(root, 'dist', 'inside');
const OUTPUTS = [
  'host.cjs',
  'guest.js',
  'parse.cjs',
  'guest.cache',
  'thread.cjs',
  'thread-host.cjs',
  'host-strict.cjs',
  'strict-probe.cjs',
  'node.cjs',
  'sdk.mjs',
  'python.py',
];

/** Brings dist/inside up to date; returns its path. */
export async function buildInside() {
  if (isFresh()) return target;
  const esbuild = await import('esbuild');
  mkdirSync(dirname(target), { recursive: true });
  // Into a folder of its own first: several processes may build at once, and a worker may be starting.
  const staging = `${target}.${process.pid}`;
  const shared = {
    bundle: true,
    target: 'esnext',
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'warning',
    plugins: [pureCore],
  };
  const node = { ...shared, format: 'cjs', platform: 'node', banner: { js: '"use strict";' } };
  await esbuild.build({ ...node, entryPoints: [join(source, 'host.inside.ts')], outfile: join(staging, 'host.cjs') });
  await esbuild.build({ ...node, entryPoints: [join(source, 'parse.inside.ts')], outfile: join(staging, 'parse.cjs') });
  await esbuild.build({
    ...shared,
    entryPoints: [join(source, 'guest.inside.ts')],
    outfile: join(staging, 'guest.js'),
    format: 'cjs',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    banner: { js: '(() => {"use strict"; const module = { exports: {} };' },
    footer: { js: 'return module.exports.guest; })()' },
  });
  // Workers of `thread`: the same host with a stream over a MessagePort, and the process that the threads share.
  const stream = replace({ 'node:net': 'thread-socket.inside.ts' });
  await esbuild.build({
    ...node,
    entryPoints: [join(source, 'thread.inside.ts')],
    outfile: join(staging, 'thread.cjs'),
    plugins: [pureCore, stream],
  });
  // Workers of `strict`: the same host with a realm in an isolate of isolated-vm.
  const strict = replace({ 'node:vm': 'strict-vm.inside.ts', 'realm.ts': 'strict-realm.inside.ts' });
  await esbuild.build({
    ...node,
    entryPoints: [join(source, 'host.inside.ts')],
    outfile: join(staging, 'host-strict.cjs'),
    plugins: [pureCore, strict],
  });
  const probe = join(source, 'strict-probe.inside.ts');
  await esbuild.build({ ...node, entryPoints: [probe], outfile: join(staging, 'strict-probe.cjs') });
  const threads = join(source, 'thread-host.inside.ts');
  await esbuild.build({ ...node, entryPoints: [threads], outfile: join(staging, 'thread-host.cjs') });
  await esbuild.build({
    ...node,
    entryPoints: [join(runtimes, 'node.inside.ts')],
    outfile: join(staging, 'node.cjs'),
    plugins: [pureCore, ownRealm],
  });
  const sdk = join(root, 'sdk', 'index.ts');
  await esbuild.build({ ...shared, entryPoints: [sdk], outfile: join(staging, 'sdk.mjs'), format: 'esm' });
  copyFileSync(join(runtimes, 'python', 'wrapper.py'), join(staging, 'python.py'));
  makeCache(staging);
  install(staging);
  return target;
}

/** Nothing in core/ does anything by being imported, so what a worker does not use of it stays out. */
const pureCore = {
  name: 'pure-core',
  setup(build) {
    build.onResolve({ filter: /\/core\/.*\.ts$/ }, ({ path, resolveDir }) => ({
      path: join(resolveDir, path),
      sideEffects: false,
    }));
  },
};

/** Puts other files of runner/isolate in the place of what an isolate's host imports; keys are the ends of import paths. */
function replace(files) {
  return {
    name: 'replace',
    setup(build) {
      build.onResolve({ filter: /./ }, ({ path, importer }) => {
        if (Object.values(files).some((file) => importer.endsWith(`/${file}`))) return undefined;
        const found = Object.keys(files).find((end) => path === end || path.endsWith(`/${end}`));
        return found === undefined ? undefined : { path: join(source, files[found]) };
      });
    },
  };
}

/** In the `node` runtime the guest shares the realm of its host: what it makes of ECMAScript alone elsewhere is Node's own there. */
const ownRealm = {
  name: 'own-realm',
  setup(build) {
    const own = join(runtimes, 'node-inside');
    build.onResolve({ filter: /\.ts$/ }, ({ path, resolveDir }) => {
      const file = join(resolveDir, path);
      const replacement = join(own, basename(file));
      if (!file.startsWith(source) || !existsSync(replacement)) return undefined;
      return { path: replacement };
    });
  },
};

/** Whether dist/inside is newer than all it is made of. */
export function isFresh() {
  if (!OUTPUTS.every((name) => existsSync(join(target, name)))) return false;
  const built = Math.min(...OUTPUTS.map((name) => statSync(join(target, name)).mtimeMs));
  const folders = [source, runtimes, join(root, 'core'), join(root, 'sdk')];
  const inputs = [...folders.flatMap(filesUnder), fileURLToPath(import.meta.url)];
  return inputs.every((file) => statSync(file).mtimeMs < built);
}

function filesUnder(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

/** The cache holds for one version of V8 and one set of its flags: those the worker's process is started with. */
function makeCache(folder) {
  const node = join(root, 'node_modules', '.bin', 'node');
  const flags = ['--disallow-code-generation-from-strings', '--disable-proto=delete'];
  const script = join(root, 'tools', 'cache-inside.cjs');
  execFileSync(existsSync(node) ? node : process.execPath, [...flags, script, folder], { stdio: 'inherit' });
}

function install(staging) {
  mkdirSync(target, { recursive: true });
  for (const name of OUTPUTS) renameSync(join(staging, name), join(target, name));
  rmSync(staging, { recursive: true });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await buildInside();
