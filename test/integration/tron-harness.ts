import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { openBroker } from '../../core/broker/open.ts';
import type { Broker } from '../../core/broker/broker.ts';
import { openMemoryBroker, type MemoryBroker } from '../../core/broker/memory.ts';
import { packArchive } from '../../core/bundle/archive.ts';
import { ClusterClock } from '../../core/clock.ts';
import { readConfig, type Config } from '../../core/config.ts';
import { ServiceStack, type Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import { openMembership, type Membership } from '../../core/membership.ts';
import { createValidators } from '../../core/openapi/compile.ts';
import { createRouter } from '../../core/openapi/router.ts';
import { openStore } from '../../core/store/open.ts';
import type { Store } from '../../core/store/store.ts';
import { FIRST_EPOCH, StoreKey, type HeldRevision, type Report, type Snapshot } from '../../core/wire/control.ts';
import { COMMAND_QUEUE, REPORT_QUEUE } from '../../core/wire/topology.ts';
import { loadManagementApi } from '../../tron/management-api.ts';
import { openTron, type Tron } from '../../tron/main.ts';

export const TOKEN = 'the-token-of-these-tests';

/** Where the servers of a suite are; embedded ones when absent. */
export interface Servers {
  readonly brokerUrl: string;
  readonly storeUrl: string;
}

/** Trons and members that only speak reports, on one broker and one store. */
export interface TronHarness extends Closable {
  readonly store: Store;
  readonly broker: Broker;
  /** What everybody logged, as NDJSON. */
  readonly logged: () => string;
  readonly dataDir: string;
  tron(config?: Partial<Config>): Promise<TestTron>;
  /** The state members act on. */
  snapshot(): Promise<Snapshot>;
  runner(
    id: string,
    options?: { failing?: (held: { bundle: string; revision: string }) => string | HeldRevision['error'] },
  ): Promise<TestMember>;
  frontend(id: string): Promise<TestMember>;
}

export interface TestTron extends Tron {
  /** From now on nothing it asks the store gets there, until `resumeStore`: as if the process were paused. */
  pauseStore(): void;
  resumeStore(): void;
  call(
    method: string,
    path: string,
    init?: { body?: unknown; headers?: Record<string, string>; token?: string },
  ): Promise<ApiResponse>;
}

export interface ApiResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- what a test expects of it, the test says
  readonly json: any;
}

/** A runner or frontend that reports; what it reports can be changed. */
export interface TestMember extends Closable {
  readonly membership: Membership;
  readonly id: string;
  inFlight: Record<string, number>;
  failures: Record<string, string>;
  /** While true it takes no snapshots: it goes on reporting the epoch it had. */
  isStuck: boolean;
  /** Gone without a word, as if killed. */
  vanish(): Promise<void>;
}

/** Short times, so that what takes seconds in a cluster takes tenths of one here. */
export const QUICK: Partial<Config> = {
  leaseMs: 600,
  reportMs: 100,
  snapshotMs: 300,
  memberLostMs: 1_000,
  deployTimeoutMs: 5_000,
  token: TOKEN,
  tronPort: 0,
  adminPort: 0,
  drainMs: 1_000,
};

export async function openHarness(servers?: Servers): Promise<TronHarness> {
  const dataDir = await mkdtemp(join(tmpdir(), 'funcatron-tron-'));
  let logged = '';
  const log: Log = pino({ level: 'debug' }, { write: (line: string) => void (logged += line) });
  const stack = new ServiceStack(20_000);
  let embedded: MemoryBroker | undefined;

  async function connect(name: string): Promise<Broker> {
    if (servers !== undefined) return openBroker(servers.brokerUrl, { log, connectionName: name, dataDir });
    if (embedded !== undefined) return embedded.connect();
    embedded = await openMemoryBroker({ file: undefined, log });
    return embedded;
  }
  function openOwnStore(): Promise<Store> {
    return openStore(servers?.storeUrl ?? 'sqlite:', { dataDir, log, role: 'test' });
  }

  const broker = stack.push('broker', await connect('test'));
  const store = stack.push('store', await openOwnStore());
  // Suites share one vhost and one database.
  await store.delete(...(await store.keys('')), 'none');
  await broker.ready();
  for (const queue of [REPORT_QUEUE, COMMAND_QUEUE]) await broker.deleteQueue(queue);

  async function member(id: string, describe: (base: ReportBase, member: TestMember) => Report): Promise<TestMember> {
    const own = await connect(id);
    const startedAt = Date.now();
    let epoch = FIRST_EPOCH;
    let stopping = false;
    let isGone = false;
    const made: Omit<TestMember, 'membership'> & { membership?: Membership } = {
      id,
      inFlight: {},
      failures: {},
      isStuck: false,
      async close() {
        if (isGone) return;
        isGone = true;
        stopping = true;
        await made.membership?.close();
        await own.close();
      },
      async vanish() {
        if (isGone) return;
        isGone = true;
        await own.close();
        await made.membership?.close();
      },
    };
    const membership = await openMembership({
      broker: own,
      store,
      cacheFile: join(dataDir, `${id}.json`),
      id,
      reportMs: QUICK.reportMs ?? 100,
      clock: new ClusterClock(),
      log,
      describe() {
        if (!made.isStuck) epoch = made.membership?.snapshot?.epoch ?? epoch;
        return describe(
          { v: 1, id, version: '0', hostname: 'here', pid: 1, startedAt, sentAt: Date.now(), epoch, stopping },
          made as TestMember,
        );
      },
    });
    made.membership = membership;
    return stack.push(id, made as TestMember);
  }

  return {
    store,
    broker,
    logged: () => logged,
    dataDir,
    async tron(config = {}) {
      const real = await openOwnStore();
      const gate = new Gate();
      const own = { broker: await connect('tron'), store: behind(gate, real) };
      const tron = await openTron({
        ...own,
        config: { ...readConfig({}, {}), dataDir, ...QUICK, ...config },
        log,
      }).catch(async (error: unknown) => {
        await own.broker.close();
        await real.close();
        throw error;
      });
      let closing: Promise<void> | undefined;
      const close = async (): Promise<void> => {
        gate.open();
        await tron.close();
        await own.broker.close();
        await real.close();
      };
      return stack.push('tron', {
        ...tron,
        pauseStore: () => gate.shut(),
        resumeStore: () => gate.open(),
        close: () => (closing ??= close()),
        call: (method, path, { body, headers = {}, token = TOKEN } = {}) =>
          request(tron.url + path, method, { authorization: `Bearer ${token}`, ...headers }, body),
      } satisfies TestTron);
    },
    async snapshot() {
      return JSON.parse((await store.get(StoreKey.snapshot))?.toString() ?? '{"bundles":[]}') as Snapshot;
    },
    runner(id, { failing = () => undefined } = {}) {
      let made: TestMember | undefined;
      return member(id, (base, self) => {
        made = self;
        const snapshot = self.isStuck ? undefined : made.membership?.snapshot;
        const held = (snapshot?.bundles ?? []).flatMap(({ name, revisions }) =>
          revisions
            .filter(({ runners }) => runners.includes(id))
            .map(({ revision }) => held1(name, revision, failing({ bundle: name, revision }), self.inFlight)),
        );
        return { ...base, role: 'runner', revisions: held };
      });
    },
    frontend(id) {
      return member(id, (base, { inFlight, failures }) => ({
        ...base,
        role: 'frontend',
        url: 'http://here',
        inFlight,
        failures,
      }));
    },
    async close() {
      await stack.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

type ReportBase = Omit<Report, 'role' | 'revisions' | 'url' | 'inFlight' | 'failures'>;

function held1(
  bundle: string,
  revision: string,
  error: string | HeldRevision['error'],
  inFlight: Record<string, number>,
): HeldRevision {
  const base = { bundle, revision, workers: 1, inFlight: inFlight[`${bundle}@${revision}`] ?? 0 };
  if (error === undefined) return { ...base, state: 'ready' };
  if (typeof error === 'object') return { ...base, state: 'failed', error };
  return { ...base, state: 'failed', error: { code: 'DEPLOY_FAILED', message: error } };
}

async function request(
  url: string,
  method: string,
  headers: Record<string, string>,
  body: unknown,
): Promise<ApiResponse> {
  const isBytes = body instanceof Uint8Array;
  const response = await fetch(url, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': isBytes ? 'application/gzip' : 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  const text = bytes.toString();
  await checkAgainstDocument(url, method, response, bytes);
  const isJson = /json/.test(response.headers.get('content-type') ?? '');
  return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
}

/** Lets through, or keeps waiting. */
class Gate {
  #open = Promise.withResolvers<void>();

  constructor() {
    this.#open.resolve();
  }

  get passed(): Promise<void> {
    return this.#open.promise;
  }

  shut(): void {
    this.#open = Promise.withResolvers();
  }

  open(): void {
    this.#open.resolve();
  }
}

/** The same store, whose every request waits at the gate first. */
function behind(gate: Gate, store: Store): Store {
  return new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      return async (...args: unknown[]) => {
        await gate.passed;
        return Reflect.apply(member, target, args) as unknown;
      };
    },
  });
}

const management = loadManagementApi().then(({ api }) => ({
  validators: createValidators(api),
  router: createRouter(
    api.operations.map(({ method, path }, value) => ({ basePath: api.basePath, method, path, value })),
  ),
}));

/** Every answer a test sees is one that swagger/tron.yaml promises. */
async function checkAgainstDocument(url: string, method: string, response: Response, body: Buffer): Promise<void> {
  const { validators, router } = await management;
  const match = router.match(undefined, method, new URL(url).pathname);
  if (match.kind !== 'found') return;
  const headers = Object.fromEntries(response.headers);
  const problems = validators.operation(match.value).checkResponse(response.status, headers, body);
  assert.deepEqual(problems, [], `${method} ${url} answered ${response.status} ${body.toString()}`);
}

/** A packed bundle with one GET; another `content` is another revision. */
export async function pack(
  name: string,
  content = '1',
  basePath = `/${name}`,
  options: Record<string, unknown> = {},
): Promise<Buffer> {
  const document = {
    openapi: '3.1.0',
    info: { title: name, version: content },
    servers: [{ url: basePath }],
    'x-funcatron': { name, ...options },
    paths: {
      '/items/{id}': { get: { operationId: 'getItem', parameters: [ID], responses: { 200: { description: '' } } } },
    },
  };
  const { archive } = await packArchive(
    new Map([
      ['funcatron.json', Buffer.from(JSON.stringify(document))],
      ['bundle.js', Buffer.from(`exports.getItem = () => ${JSON.stringify(content)};`)],
    ]),
  );
  return archive;
}

const ID = { name: 'id', in: 'path', required: true, schema: { type: 'string' } };
