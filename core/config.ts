import { FuncatronError, type Problem } from './errors.ts';

/** One row of the configuration table. `flag` and the environment name follow from the key: `httpPort` → `--http-port`, `FUNCATRON_HTTP_PORT`. */
interface ConfigRow<T> {
  readonly default: T;
  readonly unit?: 'ms' | 's' | 'bytes' | 'port' | 'count' | 'url' | 'path';
  readonly min?: number;
  readonly max?: number;
  /** Closed set of values, for strings. */
  readonly oneOf?: readonly string[];
  /** Closed set of words, for a list of them separated by commas. */
  readonly someOf?: readonly string[];
  /** What a URL may begin with; a list of them is separated by commas. What follows is checked where it is opened. */
  readonly schemes?: readonly string[];
  /** The flag and variable, where they are not made from the key. */
  readonly flag?: string;
  readonly env?: string;
  /** Never printed. */
  readonly secret?: boolean;
  readonly text: string;
}

const MiB = 1024 * 1024;

/** Every setting, once: `docs/config.md` is generated from this table. Numbers are ms and bytes unless `unit` says otherwise. */
export const CONFIG = {
  dataDir: {
    default: '.funcatron',
    unit: 'path',
    flag: '--data',
    env: 'FUNCATRON_DATA',
    text: 'folder for the token, caches, and the embedded broker and store',
  },
  host: { default: '127.0.0.1', text: 'address the HTTP port and the management port listen on' },
  httpPort: {
    default: 8080,
    unit: 'port',
    min: 0,
    max: 65535,
    text: 'frontend: port of the HTTP API; 0 = any free one',
  },
  tronPort: {
    default: 8081,
    unit: 'port',
    min: 0,
    max: 65535,
    text: 'tron: port of the management API; 0 = any free one',
  },
  adminPort: {
    default: 0,
    unit: 'port',
    min: 0,
    max: 65535,
    text: 'port of /healthz, /readyz and /metrics; 0 = any free one',
  },
  adminHost: { default: '127.0.0.1', text: 'address of the admin port' },
  brokerUrl: {
    default: 'memory:',
    unit: 'url',
    flag: '--broker',
    secret: true,
    schemes: ['memory:', 'amqp:', 'amqps:'],
    text: '`memory:` or one or more `amqp(s)://user:password@host:port/vhost`, separated by commas',
  },
  storeUrl: {
    default: 'sqlite:',
    unit: 'url',
    flag: '--store',
    secret: true,
    schemes: ['sqlite:', 'redis:', 'rediss:'],
    text: '`sqlite:` or `redis://host:port/db` (`rediss://` with TLS)',
  },
  token: {
    default: '',
    flag: '--token',
    secret: true,
    text: 'management token; when empty one is made at first start and kept in the data folder',
  },
  tronUrl: {
    default: '',
    unit: 'url',
    text: 'command line: where the management API is; when empty, the one on this machine',
  },
  logLevel: {
    default: 'info',
    oneOf: ['debug', 'info', 'warn', 'error', 'silent'],
    text: 'least level that is logged',
  },

  callTimeoutMs: {
    default: 30_000,
    unit: 'ms',
    min: 1,
    max: 900_000,
    text: 'timeout of an operation that names none; at most 15 minutes for HTTP calls',
  },
  noRunnerMs: {
    default: 2_000,
    unit: 'ms',
    min: 0,
    text: 'frontend: how long a call waits for the first runner of its revision before 503 NO_RUNNER',
  },
  slotTimeoutMs: {
    default: 10_000,
    unit: 'ms',
    min: 0,
    text: 'runner: how long a batch waits for a free slot before it is sent back to the queue',
  },
  maxInFlight: {
    default: 4_096,
    unit: 'count',
    min: 1,
    text: 'frontend: calls in flight in total; more get 503 OVERLOADED',
  },
  maxInFlightPerRevision: { default: 2_048, unit: 'count', min: 1, text: 'frontend: calls in flight of one revision' },
  maxInFlightBytes: {
    default: 256 * MiB,
    unit: 'bytes',
    min: MiB,
    text: 'frontend: bytes of request bodies in flight, and of answers their clients have not read yet, in total',
  },
  directPort: {
    default: 0,
    unit: 'port',
    min: 0,
    max: 65535,
    text: 'runner: port frontends bring and fetch long bodies at, on the address of --host; 0 = any free one',
  },
  directUrl: {
    default: '',
    unit: 'url',
    text: 'runner: where frontends reach that port; when empty, `http://<host name or address>:<port>`',
  },
  directThresholdBytes: {
    default: 64 * 1024,
    unit: 'bytes',
    min: 0,
    max: MiB,
    text: 'bodies longer than this go straight between frontend and runner, and never over the queue',
  },
  maxBodyBytes: {
    default: 16 * MiB,
    unit: 'bytes',
    min: 1024,
    text: 'frontend: longest request body of an operation that names no maxBodyBytes and is not direct',
  },
  maxQueueBodyBytes: {
    default: MiB,
    unit: 'bytes',
    min: 1024,
    max: 8 * MiB,
    text: 'longest body that crosses the queue: of calls and answers that are not HTTP, which have no direct path',
  },
  maxHeaderBytes: {
    default: 32 * 1024,
    unit: 'bytes',
    min: 1024,
    max: 256 * 1024,
    text: 'longest set of request headers',
  },

  deployTimeoutMs: {
    default: 30_000,
    unit: 'ms',
    min: 1_000,
    text: 'tron: how long a deploy waits until every runner and frontend has it',
  },
  leaseMs: { default: 6_000, unit: 'ms', min: 500, text: 'tron: how long leadership lasts without being renewed' },
  reportMs: { default: 2_000, unit: 'ms', min: 100, text: 'how often runners and frontends report what they hold' },
  snapshotMs: { default: 5_000, unit: 'ms', min: 100, text: 'tron: how often the snapshot is sent again' },
  memberLostMs: {
    default: 10_000,
    unit: 'ms',
    min: 500,
    text: 'tron: silence after which a runner or frontend is dropped',
  },
  drainMs: {
    default: 25_000,
    unit: 'ms',
    min: 0,
    text: 'how long a stopping process waits for the calls it has started',
  },

  runtimes: {
    default: 'js',
    someOf: ['js', 'node', 'http', 'default', 'python'],
    text: 'runner: runtimes it runs, separated by commas: `js`, `node`, `http`, `default`, `python`; all but `js` run programs of the machine (see docs/runtimes.md); `up` on loopback runs all',
  },
  allowWeakIsolation: {
    default: false,
    text: 'runner: start although the isolate cannot keep its promises here (see docs/security.md)',
  },
  secretsDir: {
    default: '',
    unit: 'path',
    flag: '--secrets',
    env: 'FUNCATRON_SECRETS',
    text: "runner: folder of the bundles' secrets, a file each: `<bundle>/<NAME>`, or `<NAME>` for all bundles; when empty, `secrets` in the data folder",
  },
  fetchAllow: {
    default: '',
    text: 'runner: private hosts bundles may fetch when their manifest names them, `host:port` separated by commas',
  },
  maxPrefetch: {
    default: 1_000,
    unit: 'count',
    min: 1,
    max: 2_000,
    text: 'runner: most messages one revision holds at once',
  },
  eventPrefetch: {
    default: 16,
    unit: 'count',
    min: 1,
    max: 1_000,
    text: 'runner: most events one bundle holds at once',
  },
  eventAttempts: {
    default: 5,
    unit: 'count',
    min: 1,
    max: 100,
    text: 'runner: attempts at an event before it is dead-lettered',
  },
  eventLeaseMs: {
    default: 15_000,
    unit: 'ms',
    min: 1_000,
    max: 600_000,
    text: 'runner: how long events that may run for hours wait for another runner when theirs is gone',
  },
  eventBackoffCapMs: {
    default: 3_600_000,
    unit: 'ms',
    min: 1_000,
    max: 3_600_000,
    text: 'runner: longest wait between two attempts at an event',
  },
  maxWorkers: { default: 64, unit: 'count', min: 1, text: 'runner: most workers of all bundles together' },
  warmWorkers: {
    default: 2,
    unit: 'count',
    min: 0,
    max: 64,
    text: 'runner: processes kept ready for workers to come, of each isolation in use but thread, about 40 MB each; 0 = none',
  },
} as const satisfies Record<string, ConfigRow<string | number | boolean>>;

type Widen<T> = T extends string ? string : T extends number ? number : T extends boolean ? boolean : never;
export type ConfigKey = keyof typeof CONFIG;
/** All settings, checked, with their defaults filled in. */
export type Config = { readonly [K in ConfigKey]: Widen<(typeof CONFIG)[K]['default']> };

/** `--http-port` for `httpPort`. */
export function flagOf(key: ConfigKey): string {
  const row: ConfigRow<unknown> = CONFIG[key];
  return row.flag ?? `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `FUNCATRON_HTTP_PORT` for `httpPort`. */
export function envOf(key: ConfigKey): string {
  const row: ConfigRow<unknown> = CONFIG[key];
  return (
    row.env ??
    `FUNCATRON_${(row.flag ?? flagOf(key)).slice(2).replaceAll('-', '_').toUpperCase()}${row.unit === 'url' && row.flag !== undefined ? '_URL' : ''}`
  );
}

/**
 * Flags over environment over defaults. A variable `…_FILE` names a file that holds the value (Docker secrets);
 * reading it is the caller's (`readFile`), so that tests need no disk. `defaults` stand before the table's.
 * @throws INVALID_CONFIG listing every bad value at once
 */
export function readConfig(
  flags: Readonly<Partial<Record<ConfigKey, string | boolean>>> = {},
  env: Readonly<Record<string, string | undefined>> = process.env,
  readFile: (path: string) => string = () => '',
  defaults: Readonly<Partial<Config>> = {},
): Config {
  const problems: Problem[] = [];
  const values: Partial<Record<ConfigKey, string | number | boolean>> = {};
  for (const key of Object.keys(CONFIG) as ConfigKey[]) {
    const fromFile = env[`${envOf(key)}_FILE`];
    const given = flags[key] ?? env[envOf(key)] ?? (fromFile === undefined ? undefined : readFile(fromFile).trim());
    const row: ConfigRow<string | number | boolean> = CONFIG[key];
    const name = flags[key] === undefined ? envOf(key) : flagOf(key);
    values[key] = given === undefined ? (defaults[key] ?? row.default) : parseValue(name, row, given, problems);
  }
  if (problems.length > 0) {
    const list = problems.map((problem) => problem.message).join('; ');
    throw new FuncatronError('INVALID_CONFIG', `bad configuration: ${list}`, { data: { problems } });
  }
  return Object.freeze(values) as Config;
}

function parseValue(
  name: string,
  row: ConfigRow<string | number | boolean>,
  given: string | boolean,
  problems: Problem[],
): string | number | boolean {
  const shown = row.secret === true ? 'the given value' : `"${given}"`;
  if (typeof row.default === 'boolean') {
    if (typeof given === 'boolean') return given;
    if (given === '1' || given === 'true') return true;
    if (given === '0' || given === 'false' || given === '') return false;
    problems.push({ message: `${name}: ${shown} is neither true nor false` });
    return row.default;
  }
  const text = String(given);
  if (typeof row.default === 'string') {
    if (row.oneOf !== undefined && !row.oneOf.includes(text)) {
      problems.push({ message: `${name}: ${shown} is not one of ${row.oneOf.join(', ')}` });
    }
    const other = row.someOf === undefined ? undefined : listOf(text).find((word) => !row.someOf?.includes(word));
    if (other !== undefined) problems.push({ message: `${name}: "${other}" is not one of ${row.someOf?.join(', ')}` });
    if (row.schemes !== undefined && !text.split(',').every((url) => row.schemes?.includes(schemeOf(url)))) {
      problems.push({ message: `${name}: ${shown} does not begin with one of ${row.schemes.join(', ')}` });
    }
    return text;
  }
  const value = Number(text);
  const min = row.min ?? 0;
  const max = row.max ?? Number.MAX_SAFE_INTEGER;
  if (text.trim() === '' || !Number.isInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `of ${min} or more` : `from ${min} to ${max}`;
    problems.push({
      message: `${name}: ${shown} is not a whole number ${range}${row.unit === undefined ? '' : ` (${row.unit})`}`,
    });
    return row.default;
  }
  return value;
}

/** The words of a list that is separated by commas. */
export function listOf(text: string): readonly string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

/** `amqp:` of `amqp://…`, be the rest a URL or not; empty without one. */
function schemeOf(url: string): string {
  return /^\s*([a-z]+:)/i.exec(url)?.[1]?.toLowerCase() ?? '';
}
