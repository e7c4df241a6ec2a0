import type { IncomingMessage } from 'node:http';
import type { ErrorCode, Problem } from '../core/errors.ts';
import type { Operation } from './revision.ts';
import type { FuncReply } from './reply.ts';

/** A request as its operation's document says it is. */
export interface RequestInput {
  readonly params: Readonly<Record<string, unknown>>;
  readonly query: Readonly<Record<string, unknown>>;
  readonly cookies: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, unknown>>;
}

export type ReadResult =
  | ({ readonly ok: true } & RequestInput)
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string; readonly problems: readonly Problem[] };

export interface Validators {
  read(
    operation: Operation,
    req: IncomingMessage,
    params: Readonly<Record<string, string>>,
    query: string,
    body: Buffer,
  ): ReadResult;
  /** What is wrong with a reply; empty = nothing. */
  check(operation: Operation, reply: FuncReply): readonly Problem[];
}

export function createValidators(): Validators {
  return {
    read(_operation, req, params, query) {
      return {
        ok: true,
        params,
        query: Object.fromEntries(new URLSearchParams(query)),
        cookies: {},
        headers: req.headers,
      };
    },
    check: () => [],
  };
}
