import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Broker } from '../../core/broker/broker.ts';
import { openMemoryBroker } from '../../core/broker/memory.ts';
import { readConfig, type Config } from '../../core/config.ts';
import { createLog } from '../../core/log.ts';
import { openStore } from '../../core/store/open.ts';
import type { Store } from '../../core/store/store.ts';
import type { FrontendReport, Snapshot } from '../../core/wire/control.ts';
import { REPORT_QUEUE, reportTopology } from '../../core/wire/topology.ts';
import { openFrontend, type Frontend } from '../../frontend/main.ts';
import { sendSnapshot, snapshotOf, storeSnapshot, type TestBundle } from './live-bundle.ts';
import { until } from './until.ts';

/** A frontend in this process, with its store and its data folder, over any broker. */
export interface TestFrontend {
  readonly frontend: Frontend;
  readonly broker: Broker;
  readonly store: Store;
  readonly dataDir: string;
  /** The newest report it sent. */
  readonly report: FrontendReport;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Makes this the route table: settles when the frontend routes by it. */
  route(snapshot: Snapshot, ...bundles: readonly TestBundle[]): Promise<void>;
  /** Whether it is ready, by its admin port. */
  reasons(): Promise<readonly string[]>;
  /** Ends everything, the broker too. */
  close(): Promise<void>;
}

export interface TestFrontendOptions {
  readonly bundles?: readonly TestBundle[];
  readonly config?: Partial<Config>;
  /** A memory broker when absent. */
  readonly broker?: Broker;
  /** Settle when it is ready, if it has bundles; true when absent. */
  readonly awaitReady?: boolean;
  /** SQLite in the data folder when absent. */
  readonly storeUrl?: string;
  /** A data folder of an earlier one; it is kept when this one closes. */
  readonly dataDir?: string;
}

const log = createLog({ level: 'silent', role: 'test' });

/** Opens one that routes to these bundles, ready. Without bundles it has no route table yet. */
export async function openTestFrontend(options: TestFrontendOptions = {}): Promise<TestFrontend> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'frontend-')));
  const broker = options.broker ?? (await openMemoryBroker({ file: undefined, log }));
  const store = await openStore(options.storeUrl ?? 'sqlite:', { dataDir, log, role: 'test' });
  if (options.bundles !== undefined)
    await storeSnapshot(store, snapshotOf('1.1', ...options.bundles), ...options.bundles);
  const config = { ...readConfig({}, {}), httpPort: 0, drainMs: 2_000, reportMs: 100, ...options.config, dataDir };
  let report: FrontendReport | undefined;
  void listenForReports(broker, (each) => (report = each));
  const frontend = await openFrontend({ config, broker, store, log });

  async function reasons(): Promise<readonly string[]> {
    const response = await fetch(`http://127.0.0.1:${frontend.adminPort}/readyz`);
    const { reasons } = (await response.json()) as { reasons: string[] };
    return reasons;
  }
  if (options.bundles !== undefined && options.awaitReady !== false)
    await until('the frontend is ready', async () => (await reasons()).length === 0);

  return {
    frontend,
    broker,
    store,
    dataDir,
    reasons,
    fetch: (path, init) => fetch(frontend.url + path, init),
    get report() {
      if (report === undefined) throw new Error('no report came yet');
      return report;
    },
    async route(snapshot, ...bundles) {
      await storeSnapshot(store, snapshot, ...bundles);
      await sendSnapshot(broker, snapshot);
      await until('the new routes are active', () => report?.epoch === snapshot.epoch);
    },
    async close() {
      await frontend.close();
      await broker.close();
      await store.close();
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function listenForReports(broker: Broker, onReport: (report: FrontendReport) => void): Promise<void> {
  if (!(await broker.ready())) return;
  await broker.declare(reportTopology);
  await broker.consume(REPORT_QUEUE, {}, ({ body }) => onReport(JSON.parse(body.toString()) as FrontendReport));
}

/** The value of a metric without labels, or of the one with exactly these labels as they are printed. */
export async function metric(frontend: Frontend, name: string): Promise<number | undefined> {
  const response = await fetch(`http://127.0.0.1:${frontend.adminPort}/metrics`);
  const line = (await response.text()).split('\n').find((each) => each.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

/** Writes bytes on a connection of its own; all that came back once the server closed it. */
export function exchangeRaw(port: number, ...chunks: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => (text += String(chunk)));
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    for (const chunk of chunks) socket.write(chunk, 'latin1');
  });
}
