/** `DOMException`, with the names and legacy codes of https://webidl.spec.whatwg.org/#dfn-error-names-table. */
const CODES: Readonly<Record<string, number>> = {
  IndexSizeError: 1,
  NotFoundError: 8,
  NotSupportedError: 9,
  InvalidStateError: 11,
  SyntaxError: 12,
  InvalidAccessError: 15,
  NetworkError: 19,
  AbortError: 20,
  QuotaExceededError: 22,
  TimeoutError: 23,
  DataCloneError: 25,
};

export class DOMException extends Error {
  readonly code: number;
  constructor(message: unknown = '', options: string | { name?: string; cause?: unknown } = 'Error') {
    const name = typeof options === 'string' ? options : (options.name ?? 'Error');
    super(String(message), typeof options === 'object' && 'cause' in options ? { cause: options.cause } : undefined);
    Object.defineProperty(this, 'name', { value: name, configurable: true });
    this.code = CODES[name] ?? 0;
  }
}
