import { dirname, join } from 'node:path';
import type { Permissions } from '../../core/bundle/manifest.ts';
import type { IsolateKind, WorkerSpec } from '../isolate/isolate.ts';
import { createFramedRuntime, type FramedRuntime, type RuntimeOptions } from './framed.ts';

const HINTS: FramedRuntime['hints'] = [
  [
    /Cannot find (package|module) '[^./]/,
    'run `npm install --omit=dev` in the folder of the bundle, then deploy it again: node_modules travel with it',
  ],
  [/Access to this API has been restricted/, 'declare what it needs in x-funcatron.permissions: net, fs, child'],
  [
    /is not supported in strip-only mode/,
    'Node only strips types; write it without, or compile it and name the result in x-funcatron.entry',
  ],
];

/**
 * The `node` runtime: a bundle as an ordinary Node module, in a process of its own with the whole Node API. Its walls are
 * Node's permission model, which holds honest code to what its manifest declares, and the process itself.
 */
export function createNodeRuntime(options: RuntimeOptions): IsolateKind {
  return createFramedRuntime(
    {
      name: 'node',
      wrapper: 'node.cjs',
      memory: 'measured',
      reads: (insideDir) => [process.execPath, join(insideDir, 'sdk.mjs')],
      hints: HINTS,
      command: commandOf,
    },
    options,
  );
}

function commandOf(wrapper: string, spec: WorkerSpec, folder: string): readonly string[] {
  return [
    process.execPath,
    '--permission',
    ...[wrapper, join(dirname(wrapper), 'sdk.mjs'), join(folder, '*')].map((path) => `--allow-fs-read=${path}`),
    ...(spec.permissions === undefined ? [] : permissionFlags(spec.permissions)),
    '--no-warnings',
    `--max-old-space-size=${spec.memoryMb}`,
    wrapper,
    folder,
    spec.entry ?? 'index.ts',
  ];
}

/** What a manifest declares, as flags of Node's permission model; what it does not declare is denied. */
function permissionFlags({ net, fs, child }: Permissions): string[] {
  return [
    ...(net ? ['--allow-net'] : []),
    ...(child ? ['--allow-child-process'] : []),
    ...fs.read.map((path) => `--allow-fs-read=${path}`),
    ...fs.write.map((path) => `--allow-fs-write=${path}`),
  ];
}
