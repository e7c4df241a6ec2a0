import { Kv } from './kv.ts';
import { Amqp, Http, Postgres, Redis } from './services-remote.ts';
import type { ServiceCall } from './services-call.ts';

/** `context.services`: what the manifest declares, performed by the runner. */

const { hasOwn } = Object;

type Declared = Readonly<Record<string, { readonly type: string }>>;

const CREATE: Readonly<Record<string, (name: string, call: ServiceCall | undefined) => unknown>> = {
  kv: (name) => new Kv(name),
  postgres: (name, call) => new Postgres(name, call),
  redis: (name, call) => new Redis(name, call),
  http: (name, call) => new Http(name, call),
  amqp: (name, call) => new Amqp(name, call),
};

/** Whether services of the type are the runner's; the others a bundle has to provide. */
export function isBuiltIn(type: string): boolean {
  return hasOwn(CREATE, type);
}

/**
 * The services of one call; of none, for `init`.
 * @param provided those that providers of the bundle made
 */
export function createServices(
  declared: Declared,
  call: ServiceCall | undefined,
  provided: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  const services: Record<string, unknown> = { ...provided };
  for (const name in declared) {
    if (hasOwn(provided, name)) continue;
    const create = CREATE[declared[name]?.type ?? ''];
    if (create !== undefined) services[name] = create(name, call);
  }
  return Object.freeze(services);
}

/** Whether a service has to know which call uses it; otherwise all calls share one object. */
export function knowCalls(declared: Declared): boolean {
  for (const name in declared) {
    const type = declared[name]?.type ?? '';
    if (type !== 'kv' && isBuiltIn(type)) return true;
  }
  return false;
}
