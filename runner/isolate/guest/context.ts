import type { LoadSpec } from '../bridge.ts';
import { AbortController, type AbortSignal } from './abort.ts';
import { invoke, type InvokeInput, type InvokeResult } from './invoke.ts';
import { Logger, type LogSubject } from './log.ts';
import { createServices, knowCalls, type ProvidedServices } from './services.ts';
import type { ServiceCall } from './services-call.ts';

/** What every call of a worker shares, and the `context` of each. */

/** The worker's own: made once from its spec. */
export class Home {
  readonly bundle: string;
  readonly revision: string;
  readonly config: unknown;
  readonly secrets: Readonly<Record<string, string>>;
  readonly #declared: LoadSpec['services'];
  /** Of `init`, and of every call where no service has to know which call uses it. */
  services: Readonly<Record<string, unknown>>;
  #provided: ProvidedServices = {};
  #perCall: boolean;
  readonly state: Record<string, unknown> = {};

  constructor(spec: LoadSpec) {
    this.bundle = spec.bundle;
    this.revision = spec.revision;
    this.config = freeze(spec.config);
    this.secrets = Object.freeze({ ...spec.secrets });
    this.#declared = spec.services;
    this.services = createServices(spec.services, this.#provided);
    this.#perCall = knowCalls(spec.services, this.#provided);
  }

  /** Adds the services that providers of the bundle made. */
  provide(services: ProvidedServices): void {
    this.#provided = services;
    this.services = createServices(this.#declared, services);
    this.#perCall = knowCalls(this.#declared, services);
  }

  servicesOf(call: ServiceCall, context: CallContext): Readonly<Record<string, unknown>> {
    return this.#perCall ? createServices(this.#declared, this.#provided, call, context) : this.services;
  }
}

function freeze(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  for (const item of Object.values(value)) freeze(item);
  return Object.freeze(value);
}

/** `context` of `init` and `destroy`. */
export class InitContext {
  readonly #home: Home;
  readonly #log = new Logger(undefined);
  constructor(home: Home) {
    this.#home = home;
  }
  get bundle(): string {
    return this.#home.bundle;
  }
  get revision(): string {
    return this.#home.revision;
  }
  get config(): unknown {
    return this.#home.config;
  }
  get secrets(): unknown {
    return this.#home.secrets;
  }
  get services(): unknown {
    return this.#home.services;
  }
  get state(): unknown {
    return this.#home.state;
  }
  get log(): Logger {
    return this.#log;
  }
}

/** What a context knows of its call. */
export interface ContextSource extends LogSubject, ServiceCall {
  readonly id: string;
  readonly home: Home;
  /** Set when somebody asked for the signal, or the call was aborted. */
  controller: AbortController | undefined;
}

const dateNow = Date.now;

/** `context` of a call, as the sdk describes it. */
export class CallContext {
  readonly #call: ContextSource;
  #log: Logger | undefined;
  #services: Readonly<Record<string, unknown>> | undefined;
  constructor(call: ContextSource) {
    this.#call = call;
  }
  get bundle(): string {
    return this.#call.home.bundle;
  }
  get revision(): string {
    return this.#call.home.revision;
  }
  get operationId(): string {
    return this.#call.operationId;
  }
  get callId(): string {
    return this.#call.id;
  }
  get deadline(): number {
    return this.#call.deadline;
  }
  remainingMs(): number {
    return Math.max(0, this.#call.deadline - dateNow());
  }
  get signal(): AbortSignal {
    this.#call.controller ??= new AbortController();
    return this.#call.controller.signal;
  }
  get log(): Logger {
    this.#log ??= new Logger(this.#call);
    return this.#log;
  }
  get config(): unknown {
    return this.#call.home.config;
  }
  get secrets(): unknown {
    return this.#call.home.secrets;
  }
  get services(): unknown {
    this.#services ??= this.#call.home.servicesOf(this.#call, this);
    return this.#services;
  }
  invoke(bundle: unknown, operationId: unknown, input?: InvokeInput): Promise<InvokeResult> {
    return invoke(this.#call.id, this.signal, bundle, operationId, input);
  }
  get state(): unknown {
    return this.#call.home.state;
  }
}
