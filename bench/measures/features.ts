import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packBundle } from '../../core/bundle/pack.ts';
import { TimerWheel } from '../../core/deadline.ts';
import { type BenchBundle, benchBundles } from '../bundles.ts';
import { openCluster } from '../cluster.ts';
import { load, type LoadResult } from '../load.ts';
import { median, root, temporaryFolder } from '../processes.ts';
import { brokerOf, clusterSubject, openAmqp, type Subject } from '../subjects.ts';
import { medianOf } from './hot-path.ts';

export interface FeatureOptions {
  readonly rounds: number;
  readonly seconds: number;
}

export interface FeatureRow {
  readonly name: string;
  readonly load: LoadResult;
}

export interface FeaturesResult {
  /** The bench bundle as it is first, then each with something else. */
  readonly bundles: readonly FeatureRow[];
  /** Request and reply without and with publisher confirms. */
  readonly confirms: readonly FeatureRow[];
  /** One deadline set and met in time, in µs: on the wheel, and as a timer of its own. */
  readonly wheelUs: number;
  readonly timerUs: number;
}

const CONNECTIONS = 64;
const WARM_UP_S = 1;
const DEADLINES = 1_000_000;

/** What can be told apart by the document of a bundle or the runtime it names. */
const VARIANTS: readonly (Omit<BenchBundle, 'name' | 'basePath'> & { readonly title: string })[] = [
  { title: 'all of it' },
  { title: 'without validation: a document without schemas', isUnchecked: true },
  { title: 'isolation thread instead of process', isolation: 'thread' },
  { title: 'a line logged by each call', handler: 'greetAndLog' },
];

/** What single features cost, by the same load without them, or with more of them, in turns. */
export async function measureFeatures({ rounds, seconds }: FeatureOptions): Promise<FeaturesResult> {
  const cluster = await openCluster(0);
  const raw: Subject[] = [];
  try {
    await cluster.start('runner-1', { env: { FUNCATRON_RUNTIMES: 'js,node' } });
    const broker = brokerOf(cluster);
    const bundles = VARIANTS.map((variant, index) => ({ ...variant, name: `v${index}`, basePath: `/v${index}` }));
    for (const archive of await benchBundles(bundles)) await cluster.deploy(archive);
    await cluster.deploy(await nodeArchive());
    const subjects = bundles.map(({ title, basePath }) => clusterSubject(cluster, broker, title, basePath));
    subjects.push(clusterSubject(cluster, broker, 'runtime node: a process of its own and no context in it', '/node'));
    for (const isConfirmed of [false, true]) raw.push(await openAmqp(broker, isConfirmed));
    return {
      bundles: await inTurns(subjects, rounds, seconds),
      confirms: await inTurns(raw, rounds, seconds),
      ...deadlineCosts(rounds),
    };
  } finally {
    for (const subject of raw) await subject.stop();
    await cluster.close();
  }
}

async function inTurns(subjects: readonly Subject[], rounds: number, seconds: number): Promise<readonly FeatureRow[]> {
  const loads = subjects.map((): LoadResult[] => []);
  for (const subject of subjects) await loadOf(subject, WARM_UP_S);
  for (let round = 0; round < rounds; round++)
    for (const [index, subject] of subjects.entries()) loads[index]?.push(await loadOf(subject, seconds));
  return subjects.map(({ name }, index) => ({ name, load: medianOf(loads[index] ?? []) }));
}

async function loadOf(subject: Subject, seconds: number): Promise<LoadResult> {
  const loop = { url: subject.url, connections: CONNECTIONS, seconds, watched: subject.watched() };
  return await (subject.load ?? load)(loop);
}

/** The bench bundle for runtime `node`. */
async function nodeArchive(): Promise<Buffer> {
  const folder = await temporaryFolder();
  try {
    cpSync(join(root, 'bench/bundle'), folder.path, { recursive: true });
    const file = join(folder.path, 'funcatron.yaml');
    const text = readFileSync(file, 'utf8').replace('name: bench,', 'name: v-node, runtime: node,');
    writeFileSync(file, text.replace('paths:', 'servers: [{ url: /node }]\npaths:'));
    return (await packBundle(folder.path)).archive;
  } finally {
    await folder.remove();
  }
}

/** As many deadlines as 64 connections have at once are there while each is set and met. */
function deadlineCosts(rounds: number): { readonly wheelUs: number; readonly timerUs: number } {
  const wheel = new TimerWheel();
  const others = Array.from({ length: CONNECTIONS }, () => ({ tick: 0, expire: () => undefined }));
  for (const other of others) wheel.add(other, 60_000);
  const entry = { tick: 0, expire: () => undefined };
  const onWheel = (): void => {
    wheel.add(entry, 30_000);
    wheel.remove(entry);
  };
  const alone = (): void => clearTimeout(setTimeout(entry.expire, 30_000));
  const samples = { wheel: [] as number[], timer: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    samples.wheel.push(cpuUsOf(onWheel));
    samples.timer.push(cpuUsOf(alone));
  }
  wheel.close();
  return { wheelUs: median(samples.wheel), timerUs: median(samples.timer) };
}

function cpuUsOf(step: () => void): number {
  const { user } = process.cpuUsage();
  for (let count = 0; count < DEADLINES; count++) step();
  return (process.cpuUsage().user - user) / DEADLINES;
}
