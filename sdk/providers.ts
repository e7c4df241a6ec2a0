import type { Context, Declared, Func, FuncEvent, InitContext, Logger } from './index.ts';

/**
 * What `export const providers: Provider[] = […]` of a bundle may hold. They are set up in its worker after the module
 * has run and before `init`, the lowest `order` first: the highest is the outermost, which comes first in every call
 * and has the last word on what it replaces. One that throws fails the deploy.
 */
export type Provider = ContextProvider | OperationProvider | ServiceProvider | MiddlewareProvider;

interface Ordered {
  /** 0 when absent; those of the same order are set up as they are listed. */
  readonly order?: number;
}

/** Lays its own properties over the context every func gets. */
export interface ContextProvider extends Ordered {
  readonly kind: 'context';
  /** Called for each call, before any middleware; what it returns is laid over the context. May throw: the call fails. */
  extend(context: Context, event: FuncEvent): object | undefined | Promise<object | undefined>;
}

/** Wraps every func. */
export interface MiddlewareProvider extends Ordered {
  readonly kind: 'middleware';
  /** Called once an operation; returns what is called instead of `func`. `withHeaders` adds headers to any result. */
  wrap(func: Func, operation: OperationInfo): Func;
}

/**
 * Makes what `context.services.<name>` is, for services of a type of one's own.
 *
 * With `vend`, each call has something of the service for itself (a transaction, a lock, a buffer), which `release` keeps
 * when the call succeeds and undoes when it fails, as the runner does for `postgres`.
 */
export interface ServiceProvider<Service = Declared, Item = Declared> extends Ordered {
  readonly kind: 'service';
  /** As in `x-funcatron.services.<name>.type`. */
  readonly type: string;
  /** Called once for each service of the type; `settings` is what the manifest says of it. */
  build(name: string, settings: Readonly<Record<string, Declared>>, setup: Setup): Service | Promise<Service>;
  /**
   * Called once a call, when its func first reads `context.services.<name>`, which is what it returns: the item, or a
   * promise of one. Absent: all calls have the service itself, as `init` always does.
   */
  vend?(service: Service, context: Context): Item;
  /**
   * Called once for each item, those taken last first. `success` is true when the func has ended well and its status is
   * below 500; the answer waits for it, and when it throws or rejects, the call gets 500 `COMMIT_FAILED`. It is false
   * when the func threw or answered 500 and above, and at once when the deadline passes or the caller hangs up, whatever
   * the func goes on to do. Not called when the worker dies: its memory is gone, and with it what the call had taken.
   */
  release?(item: Awaited<Item>, success: boolean, service: Service): void | Promise<void>;
}

/** Replaces named operations. */
export interface OperationProvider extends Ordered {
  readonly kind: 'operation';
  /** Also called by `funcatron pack`, which runs `getSwagger` and `getVersion`. */
  install(operations: OperationTable, setup: Setup): void | Promise<void>;
}

/** What a provider has while it is set up. */
export interface Setup extends Pick<InitContext, 'config'> {
  /** Those the manifest names that funcs may read. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly log: Logger;
  /** Called when the worker ends, after `destroy`; the last one added goes first. */
  readonly addEndOfLife: (end: () => void | Promise<void>) => void;
}

/** An operation of the document. */
export interface OperationInfo {
  readonly operationId: string;
  /** The export that would be its func. */
  readonly handler: string;
  readonly method: string;
  /** Template: `/orders/{id}`. */
  readonly path: string;
}

/** Makes text or bytes of a value a func returned. */
export type Serializer = (value: Declared, contentType: string) => string | Uint8Array;
/** Makes a value of a body. */
export type Deserializer = (bytes: Uint8Array, contentType: string) => unknown;

/** The operations and what they do unless they are replaced. */
export interface Operations {
  /** The names of all operations. */
  operations(): readonly string[];
  /** At `pack`: the document of the bundle, from the one in its folder. */
  getSwagger(document: Readonly<Record<string, Declared>>): object | Promise<object>;
  /** At `pack`: `info.version` of the document. In a worker: the revision. */
  getVersion(): string | Promise<string>;
  /** The func of an operation: the export of its name. */
  dispatcherFor(operation: OperationInfo): Func | undefined;
  /** How values of a content type (without parameters) are written; `undefined`: JSON. */
  getSerializer(contentType: string): Serializer | undefined;
  /** How bodies of a content type (without parameters) are read; `undefined`: as `event.body` says. */
  getDeserializer(contentType: string): Deserializer | undefined;
  /** The func with every middleware around it. */
  wrapWithMiddleware(func: Func, operation: OperationInfo): Func;
  /** Calls what `addEndOfLife` was given. */
  endLife(): void | Promise<void>;
}

export interface OperationTable {
  get<Name extends keyof Operations>(name: Name): Operations[Name];
  set<Name extends keyof Operations>(name: Name, operation: Operations[Name]): void;
}
