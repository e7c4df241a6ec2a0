import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { delay } from '../../core/lifecycle.ts';
import { packBundle } from '../../core/bundle/pack.ts';
import type { TestCluster } from '../../test/helpers/cluster.ts';
import { openCluster } from '../cluster.ts';
import { load, openLoop, type OpenLoopResult } from '../load.ts';
import { processTree, pssBytes } from '../process-stat.ts';
import { root } from '../processes.ts';

/** Longer than the bundle waits between two events. */
const HEARTBEATS_MS = 7_000;
const CONNECTIONS = 64;
const CALLS_PER_S = 500;
/** Files of a frontend that are no connections of clients or to runners. */
const OWN_FILES = 500;

export interface SseOptions {
  readonly clients: number;
  readonly seconds: number;
}

export interface SseResult {
  /** Of those that were there at the start. */
  readonly open: number;
  /** Those that had an event in the last `HEARTBEATS_MS`. */
  readonly served: number;
  readonly memoryKbPerClient: Readonly<Record<string, number>>;
  /** Calls of the runner's metrics that hold a slot, with the clients there and nothing else. */
  readonly slots: number;
  /** Messages that RabbitMQ has delivered to somebody who has not acknowledged them. */
  readonly deliveries: number;
  readonly callsPerS: number;
  readonly without: OpenLoopResult;
  readonly beside: OpenLoopResult;
}

/** How many clients fit into the files a frontend may open: two connections each. */
export function clientsAllowed(): number {
  const line = /^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'));
  // Node raises the soft limit to the hard one when it starts.
  return Math.floor((Number(line?.[1]) - OWN_FILES) / 2);
}

/** Clients that listen to server-sent events on one frontend, and calls at a fixed rate with and without them, to the same worker. */
export async function measureSse({ clients, seconds }: SseOptions): Promise<SseResult> {
  const cluster = await openCluster(1);
  let listeners: ChildProcess | undefined;
  try {
    await cluster.deploy((await packBundle(join(root, 'bench/sse/bundle'))).archive);
    const { url } = cluster.role('frontend-1');
    const calls = { url: `${url}/hello/ann`, callsPerS: CALLS_PER_S, connections: CONNECTIONS, seconds };
    await load({ url: calls.url, connections: CONNECTIONS, seconds: 2 });
    const without = await openLoop(calls);
    const before = memoryOf(cluster);
    listeners = await openListeners(`${url}/events`, clients);
    await delay(HEARTBEATS_MS);
    const after = memoryOf(cluster);
    const { slots, deliveries } = await heldBy(cluster);
    await reportOf(listeners);
    const beside = await openLoop(calls);
    await delay(Math.max(0, HEARTBEATS_MS - seconds * 1_000));
    return {
      ...(await reportOf(listeners)),
      memoryKbPerClient: Object.fromEntries(
        Object.entries(after).map(([name, bytes]) => [name, (bytes - (before[name] ?? 0)) / clients / 1024]),
      ),
      slots,
      deliveries,
      callsPerS: CALLS_PER_S,
      without,
      beside,
    };
  } finally {
    listeners?.disconnect();
    await cluster.close();
  }
}

/** Settles when every client has had its first event. */
async function openListeners(url: string, clients: number): Promise<ChildProcess> {
  const child = fork(join(root, 'bench/sse/clients.mjs'), [url, String(clients)], { execArgv: [] });
  const ready = once(child, 'message');
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the clients of server-sent events ended with ${String(code)}`);
  });
  await Promise.race([ready, ended]);
  ended.catch(() => undefined); // From here on it shows in their report.
  return child;
}

async function reportOf(listeners: ChildProcess): Promise<{ readonly open: number; readonly served: number }> {
  const message = once(listeners, 'message');
  listeners.send('report');
  const [report] = (await message) as [{ open: number; served: number }];
  return report;
}

function memoryOf(cluster: TestCluster): Record<string, number> {
  const [runner = 0, ...workers] = processTree(cluster.role('runner-1').pid);
  const pids = { frontend: [cluster.role('frontend-1').pid], runner: [runner], worker: workers };
  return Object.fromEntries(Object.entries(pids).map(([name, each]) => [name, pssBytes(each)]));
}

async function heldBy(cluster: TestCluster): Promise<{ readonly slots: number; readonly deliveries: number }> {
  const response = await fetch(`${cluster.role('runner-1').adminUrl}/metrics`);
  const slots = sumOf((await response.text()).matchAll(/^funcatron_runner_calls_in_flight\{.*\} (\d+)$/gm));
  const queues = await cluster.rabbit.ctl('list_queues', '--silent', 'messages_unacknowledged', 'name');
  return { slots, deliveries: sumOf(queues.matchAll(/^(\d+)\s+(?:fn|ev|reply)\./gm)) };
}

function sumOf(matches: Iterable<RegExpMatchArray>): number {
  return [...matches].reduce((sum, [, value]) => sum + Number(value), 0);
}
