/**
 * AMQP headers of the public interface (swagger/asyncapi.yaml describes them). A caller sends those of `CallHeader`,
 * gets those of `ReplyHeader`; dead letters carry those of `DeadHeader`.
 */
export const CallHeader = {
  /** `fn-path-<name>`, `fn-query-<name>` (a list for several values), `fn-header-<name>`: the parameters of the operation. */
  pathPrefix: 'fn-path-',
  queryPrefix: 'fn-query-',
  headerPrefix: 'fn-header-',
  /** Which alias' revisions may take it; only `live` in this version. */
  alias: 'fn-alias',
  /** Exactly this revision, whatever the weights say. */
  revision: 'fn-revision',
  /** W3C trace context, as in HTTP. */
  traceparent: 'traceparent',
} as const;

export const ReplyHeader = {
  /** The HTTP status of the answer. */
  status: 'fn-status',
  /** `fn-header-<name>`: headers the func set. */
  headerPrefix: 'fn-header-',
} as const;

export const DeadHeader = {
  errorCode: 'fn-error-code',
  errorMessage: 'fn-error-message',
  attempts: 'fn-attempts',
  revision: 'fn-revision',
  operation: 'fn-operation',
  /** ISO 8601. */
  diedAt: 'fn-died-at',
} as const;

/** What a retried event carries, in our own headers: the broker's `x-death` counts queues, not attempts. */
export const RetryHeader = {
  /** The attempt this delivery is; 1 = first. */
  attempt: 'fn-attempt',
  /** The operationId: the routing key is the queue's by then. */
  operation: 'fn-operation',
  /** Unix ms, from the `expiration` of the first delivery. */
  deadline: 'fn-deadline',
} as const;
