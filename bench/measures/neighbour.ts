import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packArchive } from '../../core/bundle/archive.ts';
import { delay } from '../../core/lifecycle.ts';
import { benchArchive, openCluster } from '../cluster.ts';
import { BODY } from '../bodies.ts';
import { median, root } from '../processes.ts';

const run = promisify(execFile);
const CALLS_PER_S = 200;
/** Deadline of a bomb's call. */
const BOMB_TIMEOUT_MS = 1_000;
const BOMBS = [
  'loopSync',
  'loopMicrotasks',
  'loopRegex',
  'loopSort',
  'loopNormalize',
  'neverSettles',
  'heap',
  'mapGrowth',
  'buffers',
  'resizable',
  'reply300',
  'logFlood',
  'timerFlood',
  'fetchFlood',
  'operationFlood',
  'rejectionFlood',
] as const;

/** What the other bundle can be told to do. */
type Bomb = (typeof BOMBS)[number];

/** Latency of calls at a fixed rate, from the moment each was meant to leave. */
export interface SteadyResult {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Calls that were not answered 200. */
  readonly errors: number;
}

export interface BombRow extends SteadyResult {
  readonly bomb: string;
  /** Codes its calls ended with. */
  readonly codes: readonly string[];
  /** From the answer to a bomb's call (its deadline, or the death of its worker) until the worker in its place answered. */
  readonly backAfterMs: number;
  readonly slowestBackMs: number;
}

export interface NeighbourResult {
  readonly quiet: SteadyResult;
  readonly rows: readonly BombRow[];
}

/**
 * A bundle called at a fixed rate over RabbitMQ, alone, and then beside another bundle of the same runner whose func
 * does each of the bombs, one after the other, for `seconds`.
 */
export async function measureNeighbour(seconds: number, bombs: readonly Bomb[] = BOMBS): Promise<NeighbourResult> {
  const cluster = await openCluster(1);
  try {
    await cluster.deploy(await benchArchive());
    await cluster.deploy(await bombArchive());
    const { url } = cluster.role('frontend-1');
    await steady(url, 3); // warm-up
    const quiet = await steady(url, 2 * seconds);
    const rows: BombRow[] = [];
    for (const bomb of bombs) rows.push(await beside(url, bomb, seconds));
    return { quiet, rows };
  } finally {
    await cluster.close();
  }
}

async function beside(url: string, bomb: string, seconds: number): Promise<BombRow> {
  const over = new AbortController();
  const [result, explosions] = await Promise.all([
    steady(url, seconds).finally(() => over.abort()),
    explode(url, bomb, over.signal),
  ]);
  const backs = explosions.map(({ backMs }) => backMs);
  return {
    bomb,
    ...result,
    codes: [...new Set(explosions.map(({ code }) => code))],
    backAfterMs: median(backs),
    slowestBackMs: Math.max(...backs),
  };
}

/** One bomb after the other, each as soon as the worker in the place of the last one answers. */
async function explode(url: string, bomb: string, signal: AbortSignal): Promise<{ code: string; backMs: number }[]> {
  const explosions: { code: string; backMs: number }[] = [];
  while (!signal.aborted) {
    const before = await instanceOf(url);
    const response = await fetch(`${url}/bombs/${bomb}`, { method: 'POST' });
    const code = response.ok ? String(response.status) : ((await response.json()) as { code: string }).code;
    await response.body?.cancel().catch(() => undefined); // Read already.
    const answeredMs = performance.now();
    await (code === 'TIMEOUT' || code === 'FUNC_CRASHED' ? anotherThan(before, url) : instanceOf(url));
    explosions.push({ code, backMs: performance.now() - answeredMs });
  }
  return explosions;
}

/** Settles when another worker than `before` answers, or after 5 s: the table says so. */
async function anotherThan(before: string, url: string): Promise<void> {
  const end = performance.now() + 5_000;
  while (performance.now() < end && (await instanceOf(url)) === before) await delay(20);
}

/** Which worker of the bombs' bundle answers. */
async function instanceOf(url: string): Promise<string> {
  const response = await fetch(`${url}/bombs/instance`);
  if (!response.ok) throw new Error(`no worker came back: ${response.status} ${await response.text()}`);
  return await response.text();
}

/** In a process of its own, so that nothing but the calls makes it late. */
async function steady(url: string, seconds: number): Promise<SteadyResult> {
  const args = [join(root, 'bench/steady.mjs'), `${url}/hello/ann`, String(CALLS_PER_S), String(seconds)];
  const { stdout } = await run(process.execPath, args, { env: { BODY } });
  return JSON.parse(stdout) as SteadyResult;
}

async function bombArchive(): Promise<Buffer> {
  const source = readFileSync(join(root, 'test/fixtures/bombs/bombs.cjs'));
  const responses = { 200: { description: 'it survived' } };
  const paths = Object.fromEntries(
    BOMBS.map((bomb) => [
      `/bombs/${bomb}`,
      { post: { operationId: bomb, 'x-funcatron': { timeoutMs: BOMB_TIMEOUT_MS }, responses } },
    ]),
  );
  const document = {
    openapi: '3.1.0',
    info: { title: 'Bombs', version: '1.0.0' },
    'x-funcatron': { name: 'bombs', memoryMb: 64, workers: { min: 1, max: 1 }, services: { kv: { type: 'kv' } } },
    paths: { ...paths, '/bombs/instance': { get: { operationId: 'instance', responses } } },
  };
  const files = new Map([
    ['bundle.js', source],
    ['funcatron.json', Buffer.from(JSON.stringify(document))],
  ]);
  return (await packArchive(files)).archive;
}
