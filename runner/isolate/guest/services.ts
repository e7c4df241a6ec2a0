import { Kv } from './kv.ts';
import { Amqp, Http, Postgres, Redis } from './services-remote.ts';
import type { ServiceCall } from './services-call.ts';

/** `context.services`: what the manifest declares, performed by the runner. */

type Declared = Readonly<Record<string, { readonly type: string }>>;

const CREATE: Readonly<Record<string, (name: string, call: ServiceCall | undefined) => unknown>> = {
  kv: (name) => new Kv(name),
  postgres: (name, call) => new Postgres(name, call),
  redis: (name, call) => new Redis(name, call),
  http: (name, call) => new Http(name, call),
  amqp: (name, call) => new Amqp(name, call),
};

/** The services of one call; of none, for `init`. */
export function createServices(declared: Declared, call: ServiceCall | undefined): Readonly<Record<string, unknown>> {
  const services: Record<string, unknown> = {};
  for (const name in declared) {
    const create = CREATE[declared[name]?.type ?? ''];
    if (create !== undefined) services[name] = create(name, call);
  }
  return Object.freeze(services);
}

/** Whether a service has to know which call uses it; otherwise all calls share one object. */
export function knowCalls(declared: Declared): boolean {
  for (const name in declared) if (declared[name]?.type !== 'kv') return true;
  return false;
}
