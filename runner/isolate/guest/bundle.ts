import { type BundleProvider, readProviders } from '../../../core/bundle/providers.ts';
import { type BundleFunction, type LoadSpec, Out, type StartFailure } from '../bridge.ts';
import { type CallContext, Home, InitContext } from './context.ts';
import type { CallEvent } from './event.ts';
import { errorOf } from './inspect.ts';
import { reportUncaught, setLogLevel } from './log.ts';
import { putNote } from './outbox.ts';
import { provide, type Provided, unknownService } from './providers.ts';
import { isBuiltIn } from './services.ts';

/** The bundle: how it is loaded, started and ended. */

type Handler = (event: CallEvent, context: CallContext) => unknown;
type LifecycleHandler = (context: InitContext) => unknown;

/** What a call runs. */
export interface Operation {
  readonly operationId: string;
  readonly handler: Handler;
  readonly home: Home;
}

const { apply } = Reflect;
const { stringify } = JSON;
const { hasOwn } = Object;
const operations: Operation[] = [];
let spec: LoadSpec | undefined;
let home: Home | undefined;
let initContext: InitContext | undefined;
let evaluated: { readonly exports: unknown; readonly providers: readonly BundleProvider[] } = {
  exports: {},
  providers: [],
};
let provided: Provided | undefined;
let init: LifecycleHandler | undefined;
let destroy: LifecycleHandler | undefined;

/** The operation of an index, once the bundle has started. */
export function operationAt(index: number): Operation | undefined {
  return operations[index];
}

/** Remembers what the worker runs. */
export function configure(loaded: LoadSpec): void {
  spec = loaded;
  setLogLevel(loaded.logLevel);
  home = new Home(loaded);
  initContext = new InitContext(home);
}

function describeStart(phase: StartFailure['phase'], thrown: unknown): string {
  const { name, message, stack } = errorOf(thrown);
  return stringify({ phase, name, message, stack } satisfies StartFailure);
}

function refuseRequire(name: unknown): never {
  const error = new Error(
    `cannot require ${stringify(name)}: an isolate has no modules; funcatron pack inlines npm packages, and Node's own are not there`,
  );
  throw Object.assign(error, { code: 'MODULE_NOT_FOUND' });
}

/** See `Guest.evaluate`. */
export function evaluate(bundle: BundleFunction): string {
  const module: { exports: unknown } = { exports: {} };
  try {
    apply(bundle, module.exports, [module, module.exports, refuseRequire]);
    const { exports } = module;
    init = exported(exports, 'init');
    destroy = exported(exports, 'destroy');
    evaluated = { exports, providers: readProviders(exports) };
    if (evaluated.providers.length === 0) findExports(exports);
    return '';
  } catch (thrown) {
    return describeStart('load', thrown);
  }
}

/** Funcs are exports where no provider finds them. */
function findExports(exports: unknown): void {
  if (spec === undefined || home === undefined) return;
  for (const [name, { type }] of Object.entries(spec.services)) if (!isBuiltIn(type)) throw unknownService(name, type);
  for (const { operationId, handler } of spec.operations) {
    const found: Handler | undefined = exported(exports, handler);
    if (found === undefined) {
      throw new Error(`the bundle does not export ${handler}, the func of operation ${operationId}`);
    }
    operations.push({ operationId, handler: found, home });
  }
}

function exported(exports: unknown, name: string): ((...args: unknown[]) => unknown) | undefined {
  if ((typeof exports !== 'object' && typeof exports !== 'function') || exports === null) return undefined;
  if (!hasOwn(exports, name)) return undefined;
  const value = (exports as Record<string, unknown>)[name];
  return typeof value === 'function' ? (value as (...args: unknown[]) => unknown) : undefined;
}

/** See `Guest.init`. */
export async function start(): Promise<void> {
  let failure = '';
  let phase: StartFailure['phase'] = 'provide';
  try {
    await setProvided();
    phase = 'init';
    if (init !== undefined) await apply(init, undefined, [initContext]);
  } catch (thrown) {
    failure = describeStart(phase, thrown);
  }
  putNote(Out.started, 0, failure);
}

/** Has the bundle's providers make its funcs, where it has any. */
async function setProvided(): Promise<void> {
  const { exports, providers } = evaluated;
  if (providers.length === 0 || spec === undefined || home === undefined) return;
  provided = await provide({ providers, spec, home, exported: (name) => exported(exports, name) });
  for (const [index, handler] of provided.handlers.entries()) {
    operations.push({ operationId: spec.operations[index]?.operationId ?? '', handler, home });
  }
}

/** See `Guest.destroy`. */
export async function stop(): Promise<void> {
  try {
    if (destroy !== undefined) await apply(destroy, undefined, [initContext]);
  } catch (thrown) {
    reportUncaught('destroy', thrown);
  }
  try {
    await provided?.endLife();
  } catch (thrown) {
    reportUncaught('endLife', thrown);
  }
  putNote(Out.stopped, 0, '');
}
