import { Kv } from './kv.ts';
import { Amqp, Http, Postgres, Redis } from './services-remote.ts';
import type { Vendor } from './scope.ts';
import { type ServiceCall, take } from './services-call.ts';

/** `context.services`: what the manifest declares, performed by the runner. */

const { defineProperty, hasOwn } = Object;

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

/** A service that a provider of the bundle made. */
export interface ProvidedService {
  readonly service: unknown;
  /** There where each call has something of its own. */
  readonly vendor: Vendor<unknown> | undefined;
}
export type ProvidedServices = Readonly<Record<string, ProvidedService>>;

/**
 * The services of one call; of none, for `init`.
 * @param provided those that providers of the bundle made
 */
export function createServices(
  declared: Declared,
  provided: ProvidedServices,
  call?: ServiceCall,
  context?: unknown,
): Readonly<Record<string, unknown>> {
  const services: Record<string, unknown> = {};
  for (const name in provided) {
    const { service, vendor } = provided[name] ?? {};
    if (vendor === undefined || call === undefined) services[name] = service;
    else defineProperty(services, name, { enumerable: true, get: () => take(vendor, name, call, context) });
  }
  for (const name in declared) {
    if (hasOwn(provided, name)) continue;
    const create = CREATE[declared[name]?.type ?? ''];
    if (create !== undefined) services[name] = create(name, call);
  }
  return Object.freeze(services);
}

/** Whether a service has to know which call uses it; otherwise all calls share one object. */
export function knowCalls(declared: Declared, provided: ProvidedServices): boolean {
  for (const name in provided) if (provided[name]?.vendor !== undefined) return true;
  for (const name in declared) {
    const type = declared[name]?.type ?? '';
    if (type !== 'kv' && isBuiltIn(type)) return true;
  }
  return false;
}
