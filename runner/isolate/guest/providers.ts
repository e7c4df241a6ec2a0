import { type AnyFunc, type BundleProvider, OPERATION_NAMES, OperationTable } from '../../../core/bundle/providers.ts';
import type { LoadSpec } from '../bridge.ts';
import { setDeserializers } from './body.ts';
import type { Home } from './context.ts';
import { layered, serialized } from './provided-func.ts';
import { Logger, reportUncaught } from './log.ts';
import type { Vendor } from './scope.ts';
import { isBuiltIn, type ProvidedService } from './services.ts';

/** What the providers of a bundle make of it. A bundle without any never comes here: its funcs are called as they are. */

export interface ProvidersOptions {
  /** The lowest order first. */
  readonly providers: readonly BundleProvider[];
  readonly spec: LoadSpec;
  readonly home: Home;
  /** The export of this name, where it is a function. */
  exported(name: string): AnyFunc | undefined;
}

/** What is called in place of the exports. */
export interface Provided {
  /** By operation index. */
  readonly handlers: readonly AnyFunc[];
  /** Ends what the providers began: after `destroy`. */
  endLife(): Promise<void>;
}

type OperationInfo = LoadSpec['operations'][number];

/** Sets the providers up. Rejects with what one of them threw. */
export async function provide(options: ProvidersOptions): Promise<Provided> {
  const { providers, spec, home } = options;
  const ends: AnyFunc[] = [];
  const setup = {
    config: home.config,
    secrets: home.secrets,
    log: new Logger(undefined),
    addEndOfLife: (end: unknown): void => {
      if (typeof end !== 'function') throw new TypeError('addEndOfLife takes a function');
      ends.push(end as AnyFunc);
    },
  };
  const table = new OperationTable({
    operations: () => [...OPERATION_NAMES],
    getSwagger: (document) => document,
    getVersion: () => spec.revision,
    dispatcherFor: (operation) => options.exported((operation as OperationInfo).handler),
    getSerializer: () => undefined,
    getDeserializer: () => undefined,
    wrapWithMiddleware: (func, operation) => wrapAll(providers, func as AnyFunc, operation),
    endLife: () => endAll(ends),
  });
  for (const provider of providers) if (provider.kind === 'operation') await provider.install(table, setup);
  home.provide(await buildServices(options, setup));
  if (table.isReplaced('getDeserializer')) setDeserializers(table.get('getDeserializer'));
  return {
    handlers: spec.operations.map((operation) => handlerOf(operation, providers, table)),
    async endLife() {
      await table.get('endLife')();
    },
  };
}

/** Context → middleware → func, and what comes back is serialized last. */
function handlerOf(operation: OperationInfo, providers: readonly BundleProvider[], table: OperationTable): AnyFunc {
  const func = needFunc(table.get('dispatcherFor')(operation), `dispatcherFor gave no func for`, operation);
  let handler = needFunc(
    table.get('wrapWithMiddleware')(func, operation),
    'wrapWithMiddleware lost the func of',
    operation,
  );
  for (const provider of providers) if (provider.kind === 'context') handler = layered(handler, provider.extend);
  return table.isReplaced('getSerializer') ? serialized(handler, table.get('getSerializer')) : handler;
}

function wrapAll(providers: readonly BundleProvider[], func: AnyFunc, operation: unknown): AnyFunc {
  let wrapped = func;
  for (const provider of providers) {
    if (provider.kind !== 'middleware') continue;
    wrapped = needFunc(provider.wrap(wrapped, operation), 'a middleware lost the func of', operation as OperationInfo);
  }
  return wrapped;
}

function needFunc(value: unknown, what: string, { operationId }: OperationInfo): AnyFunc {
  if (typeof value === 'function') return value as AnyFunc;
  throw new TypeError(`${what} operation ${operationId}`);
}

type OwnServiceProvider = Extract<BundleProvider, { readonly kind: 'service' }>;

/** The services of types of the bundle's own: the provider of the highest order of a type makes them, the lowest begins. */
async function buildServices(
  { providers, spec }: ProvidersOptions,
  setup: object,
): Promise<Record<string, ProvidedService>> {
  const byType = new Map<string, OwnServiceProvider>();
  for (const provider of providers) if (provider.kind === 'service') byType.set(provider.type, provider);
  const declared = Object.entries(spec.services);
  for (const [name, { type }] of declared) if (!byType.has(type) && !isBuiltIn(type)) throw unknownService(name, type);
  const built: Record<string, ProvidedService> = {};
  for (const provider of providers) {
    if (provider.kind !== 'service' || byType.get(provider.type) !== provider) continue;
    for (const [name, settings] of declared) {
      if (settings.type !== provider.type) continue;
      const service = await provider.build(name, settings, setup);
      built[name] = { service, vendor: vendorOf(provider, service) };
    }
  }
  return built;
}

function vendorOf({ vend, release }: OwnServiceProvider, service: unknown): Vendor<unknown> | undefined {
  if (vend === undefined) return undefined;
  return {
    vend: (_callId, context) => vend(service, context),
    async release(vended, success) {
      let item: unknown;
      try {
        item = await vended;
      } catch {
        return; // The func has heard of it, and there is nothing to give back.
      }
      await release?.(item, success, service);
    },
  };
}

/** Why a service cannot be had: its type is nobody's. */
export function unknownService(name: string, type: string): TypeError {
  return new TypeError(
    `service ${name} is of type ${type}, which is not built in, and the bundle exports no provider of it`,
  );
}

async function endAll(ends: readonly AnyFunc[]): Promise<void> {
  for (const end of ends.toReversed()) {
    try {
      await end();
    } catch (thrown) {
      reportUncaught('the end of life', thrown);
    }
  }
}
