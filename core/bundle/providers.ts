/**
 * `providers` of a bundle, as its worker and `pack` read them. Nothing of Node's is used here: it runs inside isolates.
 * Whatever the bundle exports comes from its author, so every shape is checked, and what is wrong is said in words.
 */

/** One of the things `export const providers` lists; sdk/providers.ts describes each kind. */
export type BundleProvider =
  | { readonly kind: 'context'; readonly order: number; readonly extend: AnyFunc }
  | { readonly kind: 'operation'; readonly order: number; readonly install: AnyFunc }
  | {
      readonly kind: 'service';
      readonly order: number;
      readonly type: string;
      readonly build: AnyFunc;
      readonly vend?: AnyFunc;
      readonly release?: AnyFunc;
    }
  | { readonly kind: 'middleware'; readonly order: number; readonly wrap: AnyFunc };

/** What can be called; its arguments and result are the author's. */
export type AnyFunc = (...args: unknown[]) => unknown;

/** The operations a bundle may replace, by name. */
export const OPERATION_NAMES = [
  'operations',
  'getSwagger',
  'getVersion',
  'dispatcherFor',
  'getSerializer',
  'getDeserializer',
  'wrapWithMiddleware',
  'endLife',
] as const;
export type OperationName = (typeof OPERATION_NAMES)[number];

/** The function each kind of provider has. */
const METHODS: Readonly<Record<string, string>> = {
  context: 'extend',
  operation: 'install',
  service: 'build',
  middleware: 'wrap',
};

const { hasOwn } = Object;

/**
 * The providers of a bundle from its exports, the lowest order first, so that each one is wrapped around those before
 * it; none where it exports none.
 * @throws TypeError naming the provider that is none
 */
export function readProviders(exports: unknown): readonly BundleProvider[] {
  if (!isObject(exports) || !hasOwn(exports, 'providers')) return [];
  const { providers } = exports as { providers: unknown };
  if (!Array.isArray(providers)) throw new TypeError('`providers` is not an array');
  return providers.map(readProvider).sort((a, b) => a.order - b.order);
}

function readProvider(provider: unknown, index: number): BundleProvider {
  const where = `providers[${index}]`;
  if (!isObject(provider)) throw new TypeError(`${where} is not an object`);
  const { kind, order = 0, type } = provider as Record<string, unknown>;
  const method = METHODS[String(kind)];
  if (method === undefined) {
    throw new TypeError(`${where}.kind is ${String(kind)}, and not one of ${Object.keys(METHODS).join(', ')}`);
  }
  if (typeof order !== 'number' || Number.isNaN(order)) throw new TypeError(`${where}.order is not a number`);
  if (kind === 'service' && (typeof type !== 'string' || type === '')) throw new TypeError(`${where}.type is no text`);
  const call = (provider as Record<string, unknown>)[method];
  if (typeof call !== 'function') throw new TypeError(`${where} is a ${String(kind)} provider without ${method}()`);
  const bound = bind(call as AnyFunc, provider);
  const perCall = kind === 'service' ? readPerCall(provider, where) : {};
  return { kind, order, type, [method]: bound, ...perCall } as unknown as BundleProvider;
}

/** `vend` and `release` of a service provider, where calls have something of the service for themselves. */
function readPerCall(provider: object, where: string): Readonly<Record<string, AnyFunc>> {
  const found: Record<string, AnyFunc> = {};
  for (const name of ['vend', 'release'] as const) {
    const value = (provider as Record<string, unknown>)[name];
    if (value === undefined) continue;
    if (typeof value !== 'function') throw new TypeError(`${where}.${name} is not a function`);
    found[name] = bind(value as AnyFunc, provider);
  }
  if (found['release'] !== undefined && found['vend'] === undefined) {
    throw new TypeError(`${where} has release(), but no vend() for what it would release`);
  }
  return found;
}

function bind(func: AnyFunc, provider: object): AnyFunc {
  return (...args) => Reflect.apply(func, provider, args);
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' || typeof value === 'function') && value !== null;
}

/** The operations by name; an operation provider replaces them. */
export class OperationTable {
  readonly #operations: Map<string, AnyFunc>;
  readonly #replaced = new Set<string>();

  constructor(own: Readonly<Record<OperationName, AnyFunc>>) {
    this.#operations = new Map(Object.entries(own));
  }

  /** @throws TypeError when there is no operation of this name */
  get(name: OperationName): AnyFunc {
    const operation = this.#operations.get(name);
    if (operation === undefined) throw unknownOperation(name);
    return operation;
  }

  /** @throws TypeError when there is no operation of this name, or it is no function */
  set(name: OperationName, operation: AnyFunc): void {
    if (!this.#operations.has(name)) throw unknownOperation(name);
    if (typeof operation !== 'function') throw new TypeError(`operation ${name} is not a function`);
    this.#operations.set(name, operation);
    this.#replaced.add(name);
  }

  isReplaced(name: OperationName): boolean {
    return this.#replaced.has(name);
  }
}

function unknownOperation(name: string): TypeError {
  return new TypeError(`there is no operation ${name}; there are ${OPERATION_NAMES.join(', ')}`);
}
