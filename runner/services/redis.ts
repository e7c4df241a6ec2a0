import { Redis, ReplyError } from 'ioredis';
import { backoffMs } from '../../core/deadline.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';
import { deadlineOf, MAX_RESULT_BYTES, type Service, serviceError, unreachable, waitMsOf } from './service.ts';

const CONNECT_MS = 5_000;
/** Calls share one connection: nothing that changes its state, takes it for itself or stops the server. */
const REFUSED = new Set(
  `auth blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client debug discard exec hello monitor multi
  psubscribe psync punsubscribe quit readonly readwrite replicaof reset save script select shutdown slaveof ssubscribe
  subscribe sunsubscribe sync unsubscribe unwatch wait waitaof watch xread xreadgroup`.split(/\s+/),
);

/**
 * `context.services.<name>` of type redis: a user's own Redis or Valkey.
 *
 * ```
 * redis.command {words: string[], deadline?} → {value}
 * ```
 * Replies as JSON: strings, numbers, null, arrays; integers beyond 2^53 as strings. One connection for all calls,
 * opened when it is needed first. No command is sent a second time.
 */
export function createRedis(name: string, url: string): Service {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_MS,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (attempt) => backoffMs(attempt),
    connectionName: 'funcatron',
  });
  /** Bytes that came since the last reply was whole. */
  let unread = 0;
  let isExceeded = false;
  let lost: unknown;
  redis.on('error', (error) => {
    lost = error;
  });
  redis.on('connect', () => {
    unread = 0;
    isExceeded = false;
    redis.stream.on('data', (chunk: Buffer) => {
      unread += chunk.length;
      if (unread <= MAX_RESULT_BYTES || isExceeded) return;
      isExceeded = true;
      redis.disconnect(true);
    });
  });

  async function send(words: readonly string[]): Promise<unknown> {
    const [command = '', ...args] = words;
    try {
      return await redis.call(command, args);
    } catch (error) {
      if (error instanceof ReplyError) {
        const { message } = error as Error;
        if (/^(?:WRONGPASS|NOAUTH)\b/.test(message)) throw unreachable(name, error);
        throw serviceError(/^[A-Z]+/.exec(message)?.[0] ?? 'ERR', `service ${name}: ${message}`);
      }
      if (isExceeded)
        throw new FuncatronError(
          'RESPONSE_TOO_LARGE',
          `service ${name}: a reply is longer than ${MAX_RESULT_BYTES} bytes`,
        );
      throw unreachable(name, lost ?? error);
    } finally {
      unread = 0;
    }
  }

  return {
    vends: false,
    async run(request): Promise<GuestResult> {
      const words = wordsOf(name, request);
      return { result: { value: jsonOf((await inTime(send(words), waitMsOf(deadlineOf(request)), name)) ?? null) } };
    },
    close() {
      redis.disconnect();
      return Promise.resolve();
    },
  };
}

function wordsOf(name: string, { name: operation, args: { words } }: GuestOperation): readonly string[] {
  const isList = Array.isArray(words) && words.length > 0 && words.every((word) => typeof word === 'string');
  if (operation !== 'redis.command' || !isList) {
    throw new FuncatronError('INVALID_REQUEST', `service ${name} cannot do ${operation} with these arguments`);
  }
  const list = words as readonly string[];
  const command = list[0] ?? '';
  if (!REFUSED.has(command.toLowerCase()) && /^[a-z][a-z._-]*$/i.test(command)) return list;
  const message = `service ${name} does not send ${JSON.stringify(command.slice(0, 50))}: calls share its connection`;
  throw new FuncatronError('INVALID_REQUEST', message);
}

/** The reply as JSON can say it; `Error` replies inside of a list as their text. */
function jsonOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(jsonOf);
  if (Buffer.isBuffer(value)) return value.toString();
  if (typeof value === 'bigint') return String(value);
  return value instanceof Error ? value.message : value;
}

async function inTime<T>(reply: Promise<T>, ms: number, name: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new FuncatronError('SERVICE_BUSY', `service ${name} did not answer in time`)),
    ms,
  );
  try {
    return await Promise.race([reply, late]);
  } finally {
    clearTimeout(timer);
  }
}
