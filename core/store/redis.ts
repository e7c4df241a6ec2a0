import { Redis } from 'ioredis';
import { backoffMs } from '../deadline.ts';
import { FuncatronError } from '../errors.ts';
import { delay } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import { checkIncrement, checkTtl, notAnInteger, type SetOptions, type Store } from './store.ts';

/** Longest wait for one command, in ms: the contract of `Store`. */
const COMMAND_TIMEOUT_MS = 2_000;
/** How often an idle connection is tried, in ms, so that `isUp` is true of now. */
const PING_EVERY_MS = 2_000;
const DEFAULT_PREFIX = 'funcatron:';

/** Scripts use nothing newer than Redis 6.2, and touch one key each. */
const COMPARE_AND_SET = `
  local value = redis.call('GET', KEYS[1])
  if ARGV[1] == 'absent' then
    if value then return 0 end
  elseif value ~= ARGV[2] then return 0 end
  redis.call('SET', KEYS[1], ARGV[3])
  return 1`;
/**
 * The bounds are those of a safe integer; '%.0f' because Lua prints large numbers as 9e+15, and a string comes back
 * because ioredis' parser reads the integer 2^53 - 1 as 2^53.
 */
const INCREMENT = `
  local created = redis.call('EXISTS', KEYS[1]) == 0
  local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
  if type(sum) == 'table' then return false end
  if sum > 9007199254740991 or sum < -9007199254740991 then
    redis.call('INCRBY', KEYS[1], string.format('%.0f', -tonumber(ARGV[1])))
    return false
  end
  if created and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return string.format('%.0f', sum)`;
const ACQUIRE_LEASE = `
  local owner = redis.call('GET', KEYS[1])
  if owner and owner ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1`;
const RELEASE_LEASE = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
  return 0`;

/** What a server says that is up but cannot serve us now: waiting or an operator helps, changing the command does not. */
const UNAVAILABLE =
  /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|OOM|MISCONF|BUSY|TRYAGAIN|NOAUTH|WRONGPASS|NOPERM)\b/;

/** What ioredis says of a command it has no connection for. */
const NOT_CONNECTED = "Stream isn't writeable";

/**
 * The store of a cluster: Redis 6.2 or newer, or Valkey. `?prefix=` in the URL replaces `funcatron:` before every key.
 * Leases are keys whose value is the owner.
 *
 * Resolves when the first attempt to connect has succeeded or failed; from then on it connects again with backoff,
 * for ever. No command waits for a connection and none is sent a second time: what was on its way when the connection
 * went is STORE_DOWN, and may or may not have happened.
 */
export async function openRedisStore(options: { url: string; log: Log; connectionName: string }): Promise<Store> {
  const store = new RedisStore(options.url, options.log, options.connectionName);
  await store.connect();
  return store;
}

class RedisStore implements Store {
  readonly kind = 'redis';
  readonly #redis: Redis;
  readonly #prefix: string;
  /** `redis://host:port`: what logs and errors say, never the password. */
  readonly #address: string;
  readonly #log: Log;
  readonly #closing = new AbortController();
  #isUp = false;
  #isCorked = false;
  #hasWarned = false;
  /** What the connection was last lost of: a command that finds none says only that. */
  #lostOf = 'it is not connected';

  constructor(url: string, log: Log, connectionName: string) {
    const parsed = new URL(url);
    this.#prefix = parsed.searchParams.get('prefix') ?? DEFAULT_PREFIX;
    parsed.searchParams.delete('prefix');
    this.#address = `${parsed.protocol}//${parsed.host}`;
    this.#log = log;
    this.#redis = new Redis(parsed.href, {
      connectionName,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      // 0: the commands on their way fail with their connection; any more and ioredis holds them through a reconnect.
      maxRetriesPerRequest: 0,
      commandTimeout: COMMAND_TIMEOUT_MS,
      connectTimeout: COMMAND_TIMEOUT_MS,
      // A connection that owes an answer and stays silent is cut half open: only a new one can tell.
      socketTimeout: COMMAND_TIMEOUT_MS,
      keepAlive: 10_000,
      retryStrategy: (attempt) => backoffMs(attempt),
      // After a failover the old primary is a replica: connect again and find the new one, without sending it again.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    });
    this.#redis.on('ready', () => this.#up());
    this.#redis.on('close', () => this.#down('the connection was closed'));
    this.#redis.on('error', (error) => {
      this.#lostOf = error.message;
      this.#down(error.message);
    });
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  async describeServer(): Promise<string> {
    const info = await this.#attempt('ask', 'INFO server', this.#redis.info('server'));
    const valueOf = (key: string): string | undefined => new RegExp(`^${key}:(\\S+)`, 'm').exec(info)?.[1];
    // Valkey calls itself Redis 7.2.4 too, for old clients.
    return `${valueOf('server_name') ?? 'redis'} ${valueOf('valkey_version') ?? valueOf('redis_version') ?? ''}`.trim();
  }

  async connect(): Promise<void> {
    try {
      await this.#redis.connect();
    } catch {
      // The 'error' listener has logged it and ioredis tries again by itself: not being reachable at start is no failure.
    }
    void this.#keepTrying();
  }

  async get(key: string): Promise<Buffer | undefined> {
    return (await this.#attempt('get', key, this.#client.getBuffer(this.#prefix + key))) ?? undefined;
  }

  async set(key: string, value: Uint8Array | string, options: SetOptions = {}): Promise<boolean> {
    const bytes = typeof value === 'string' ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    const args: (string | number)[] = [];
    if (options.ttlMs !== undefined) args.push('PX', checkTtl(options.ttlMs));
    if (options.ifAbsent === true) args.push('NX');
    const sent = this.#client.call('SET', this.#prefix + key, bytes, ...args);
    return (await this.#attempt('set', key, sent)) === 'OK';
  }

  async delete(...keys: readonly string[]): Promise<number> {
    if (keys.length === 0) return 0;
    return this.#attempt('delete', keys[0] ?? '', this.#client.del(keys.map((key) => this.#prefix + key)));
  }

  async compareAndSet(key: string, expected: string | undefined, next: string): Promise<boolean> {
    const found = expected === undefined ? 'absent' : 'present';
    return (await this.#script('compare and set', COMPARE_AND_SET, key, found, expected ?? '', next)) === 1;
  }

  async increment(key: string, by: number, ttlMs?: number): Promise<number> {
    const ttl = ttlMs === undefined ? '' : checkTtl(ttlMs);
    const sum = await this.#script('increment', INCREMENT, key, checkIncrement(by), ttl);
    if (typeof sum !== 'string') throw notAnInteger(key);
    return Number(sum);
  }

  async keys(prefix: string): Promise<readonly string[]> {
    const pattern = `${(this.#prefix + prefix).replace(/[\\*?[\]]/g, '\\$&')}*`;
    // SCAN may name a key twice.
    const found = new Set<string>();
    let cursor = '0';
    do {
      const scan = this.#redis.scan(cursor, 'MATCH', pattern, 'COUNT', 1_000);
      const [next, keys] = await this.#attempt('list keys under', prefix, scan);
      for (const key of keys) found.add(key.slice(this.#prefix.length));
      cursor = next;
    } while (cursor !== '0');
    return [...found].sort();
  }

  async acquireLease(key: string, owner: string, ttlMs: number): Promise<boolean> {
    return (await this.#script('acquire the lease', ACQUIRE_LEASE, key, owner, checkTtl(ttlMs))) === 1;
  }

  async releaseLease(key: string, owner: string): Promise<void> {
    await this.#script('release the lease', RELEASE_LEASE, key, owner);
  }

  async leaseOwner(key: string): Promise<string | undefined> {
    return (await this.get(key))?.toString();
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    try {
      // QUIT is answered after everything sent before it: nothing on its way is cut off.
      await this.#redis.quit();
    } catch {
      // Not connected, or no answer in time: there is nothing left to wait for.
    }
    this.#redis.disconnect();
    this.#isUp = false;
  }

  /**
   * The connection, for commands that may come in crowds: those of one turn leave in one write. ioredis writes each by
   * itself, and that system call is half of what a command costs its process.
   */
  get #client(): Redis {
    // Absent until the first attempt to connect, whatever the type says.
    const { stream }: { readonly stream?: Pick<Redis['stream'], 'cork' | 'uncork'> } = this.#redis;
    if (stream === undefined || this.#isCorked) return this.#redis;
    this.#isCorked = true;
    stream.cork();
    process.nextTick(() => {
      this.#isCorked = false;
      stream.uncork();
    });
    return this.#redis;
  }

  #script(what: string, lua: string, key: string, ...args: (string | number)[]): Promise<unknown> {
    return this.#attempt(what, key, this.#client.eval(lua, 1, this.#prefix + key, ...args));
  }

  /** Every command goes through here: `isUp` follows the outcome, and ioredis' errors become ours. */
  async #attempt<T>(what: string, key: string, sent: Promise<T>): Promise<T> {
    try {
      const reply = await sent;
      this.#up();
      return reply;
    } catch (error) {
      const { message, name } = error instanceof Error ? error : new Error(String(error));
      const isReply = name === 'ReplyError';
      // Without the cause: ioredis hangs the command on its errors, arguments and all, and HELLO's are the password.
      if (isReply && !UNAVAILABLE.test(message)) {
        throw new FuncatronError('INTERNAL', `could not ${what} "${key}": redis says ${message}`);
      }
      const reason = message.startsWith(NOT_CONNECTED) ? this.#lostOf : message;
      this.#down(reason);
      const state = `the store cannot ${isReply ? 'serve' : 'be reached'} (${this.#address})`;
      throw new FuncatronError('STORE_DOWN', `could not ${what} "${key}": ${state}: ${reason}`, {
        data: { hint: `check that redis answers at ${this.#address}; it is tried again all the time` },
      });
    }
  }

  async #keepTrying(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await delay(PING_EVERY_MS, signal);
      if (signal.aborted || this.#redis.status !== 'ready') continue;
      try {
        await this.#redis.ping();
        this.#up();
      } catch (error) {
        this.#down(String(error));
      }
    }
  }

  #up(): void {
    this.#isUp = !this.#closing.signal.aborted;
    if (!this.#hasWarned) return;
    this.#hasWarned = false;
    this.#log.info({ address: this.#address }, 'redis answers again');
  }

  /** One line for each time it goes down, not one for each attempt. */
  #down(reason: string): void {
    this.#isUp = false;
    if (this.#hasWarned || this.#closing.signal.aborted) return;
    this.#hasWarned = true;
    this.#log.warn({ reason, address: this.#address }, 'redis cannot be reached; trying again');
  }
}
