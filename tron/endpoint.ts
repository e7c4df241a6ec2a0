import type { LogLine } from '../core/wire/control.ts';

/** A request that matches its operation in swagger/tron.yaml. */
export interface ApiRequest {
  /** Coerced and defaulted as the document says. */
  readonly params: Readonly<Record<string, unknown>>;
  readonly query: Readonly<Record<string, unknown>>;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** As received; `undefined` where there is none, and for a streamed one. */
  readonly body: Buffer | undefined;
  /** The body as it comes in. */
  readonly stream: AsyncIterable<Uint8Array>;
}

/** What a handler answers with. */
export type Answer =
  | { readonly status: number; readonly json: unknown }
  | { readonly status: number; readonly bytes: Buffer; readonly contentType: string | undefined }
  | { readonly status: 204 }
  /** Server-sent events: first `past`, then whatever `follow` calls back with, until the client goes or tron stops. */
  | { readonly past: readonly LogLine[]; readonly follow: (listener: (line: LogLine) => void) => () => void };

/** One operation of the management API. */
export interface Endpoint {
  /** It reads its body itself, as it comes in. */
  readonly isStreamed?: true;
  /** It needs no token. */
  readonly isOpen?: true;
  /** @throws what the client gets as problem+json */
  handle(request: ApiRequest): Promise<Answer>;
}
