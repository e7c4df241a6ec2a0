import type { Manifest } from '../../core/bundle/manifest.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { IsolateKind } from './isolate.ts';
import { createDefaultRuntime } from '../runtimes/default.ts';
import { createHttpRuntime } from '../runtimes/http.ts';
import { createNodeRuntime } from '../runtimes/node.ts';
import { createPythonRuntime } from '../runtimes/python.ts';
import { createProcessIsolate } from './process.ts';
import { createStrictIsolate } from './strict.ts';
import { createThreadIsolate } from './thread.ts';

/** What the kinds of isolates are made of. */
export interface KindOptions {
  readonly log: Log;
  /** Runtimes the operator has switched on. */
  readonly runtimes: readonly string[];
  readonly allowWeakIsolation: boolean;
  /** Processes kept ready for workers of `process` to come. */
  readonly warmWorkers?: number;
  /** Folders that programs of bundles do not see, where that can be done; default: none. */
  readonly hidden?: readonly string[];
}

/** Where the funcs of bundles run on this runner. */
export interface Kinds extends Closable {
  /** @throws INVALID_BUNDLE when this runner does not run what the manifest asks for */
  of(manifest: Pick<Manifest, 'runtime' | 'isolation'>): IsolateKind;
}

/** By isolation for `js`, by runtime for everything else. A kind is made when the first bundle needs it. */
const KINDS: Readonly<Record<string, (options: KindOptions) => IsolateKind>> = {
  process: createProcessIsolate,
  thread: createThreadIsolate,
  strict: createStrictIsolate,
  http: createHttpRuntime,
  default: createDefaultRuntime,
  node: createNodeRuntime,
  python: createPythonRuntime,
};

export function createKinds(options: KindOptions): Kinds {
  const made = new Map<string, IsolateKind>();
  return {
    of({ runtime, isolation }) {
      if (!options.runtimes.includes(runtime)) throw switchedOff(runtime, options.runtimes);
      const name = runtime === 'js' ? isolation : runtime;
      const create = KINDS[name];
      if (create === undefined) {
        const asked = runtime === 'js' ? `isolation ${isolation}` : `runtime ${runtime}`;
        throw new FuncatronError('INVALID_BUNDLE', `this runner has no ${asked}`);
      }
      const kind = made.get(name) ?? create(options);
      made.set(name, kind);
      return kind;
    },
    async close() {
      await Promise.all([...made.values()].map(async (kind) => await kind.close?.()));
    },
  };
}

function switchedOff(runtime: string, runtimes: readonly string[]): FuncatronError {
  return new FuncatronError(
    'INVALID_BUNDLE',
    `runtime ${runtime} is not switched on; this runner runs ${runtimes.join(', ')}`,
    {
      data: {
        hint: `start the runner with --runtimes ${[...runtimes, runtime].join(',')}, if its bundles may run programs`,
      },
    },
  );
}
