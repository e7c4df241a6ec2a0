import { existsSync } from 'node:fs';
import { FuncatronError } from '../../core/errors.ts';
import type { IsolateKind, WorkerSpec } from '../isolate/isolate.ts';
import { homeVariables } from './environment.ts';
import { createFramedRuntime, type FramedRuntime, type RuntimeOptions } from './framed.ts';

/** Looked for in fixed places: the environment is not ours to read. */
const PYTHONS = ['/usr/local/bin/python3', '/usr/bin/python3', '/opt/homebrew/bin/python3'];

const HINTS: FramedRuntime['hints'] = [
  [
    /ModuleNotFoundError/,
    'put packages into the folder of the bundle with `pip install --target . -r requirements.txt`; ' +
      'a module of its own is named in x-funcatron.entry, main:handler where nothing is written',
  ],
  [
    /AttributeError: module \S+ has no function/,
    'define it as def handler(context, event), or name another in x-funcatron.handler',
  ],
];

/** The `python` runtime: handlers as Nuclio spells them, on the machine's own Python (3.9 or later), in a process of their own. */
export function createPythonRuntime(options: RuntimeOptions): IsolateKind {
  return createFramedRuntime(
    {
      name: 'python',
      wrapper: 'python.py',
      memory: 'limited',
      reads: () => [],
      environment: homeVariables,
      hints: HINTS,
      command: commandOf,
    },
    options,
  );
}

function commandOf(wrapper: string, spec: WorkerSpec, folder: string): readonly string[] {
  const python = PYTHONS.find((file) => existsSync(file));
  if (python === undefined) {
    throw new FuncatronError('INVALID_BUNDLE', `this runner has no Python to run bundle ${spec.bundle} with`, {
      data: { hint: `install Python 3.9 or later as one of ${PYTHONS.join(', ')}` },
    });
  }
  // -I: nothing of the user's; -B: nothing is written beside the bundle's files.
  const flags = ['-I', '-B', '-X', 'utf8'];
  return [python, ...flags, wrapper, folder, spec.entry ?? 'main:handler', String(spec.concurrency)];
}
