import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { newId, parseId } from '../../core/id.ts';
import { createLog } from '../../core/log.ts';
import { CallFlag, encodeCalls, Envelope } from '../../core/wire/envelope.ts';
import type { BundleFunction } from '../../runner/isolate/bridge.ts';
import { createBootstrap, createRealm, type Realm } from '../../runner/isolate/host/realm.ts';
import type { IsolateKind, Worker } from '../../runner/isolate/isolate.ts';
import { createProcessIsolate, type ProcessIsolateOptions } from '../../runner/isolate/process.ts';
import { createStrictIsolate } from '../../runner/isolate/strict.ts';
import { createThreadIsolate } from '../../runner/isolate/thread.ts';
import { cpuSeconds, processTree, pssBytes } from '../process-stat.ts';
import { median, root } from '../processes.ts';
import { repeat } from '../repeat.ts';

export interface IsolateResult {
  /** Calls a second of one worker, batches of `BATCH`, a few of them on their way. */
  readonly batchedPerS: number;
  /** Calls a second of the same context in this thread. */
  readonly inThreadPerS: number;
  readonly serialMs: number;
  /** The same bytes to a child that sends them back. */
  readonly echoMs: number;
  readonly kinds: readonly KindRow[];
}

/** One worker of one isolate, batches as above. */
export interface KindRow {
  readonly name: string;
  readonly callsPerS: number;
  /** Of its process, or the one its thread is in. */
  readonly cpuUsPerCall: number;
  readonly serialMs: number;
  /** Of the same, with one worker; and what a second worker adds. */
  readonly pssMb: number;
  readonly secondPssMb: number;
}

const SOURCE = 'exports.echo = (event) => event.body;';
const BATCH = 32;
const ON_THEIR_WAY = 8;
/** What a wall costs, not who goes first: all of it at this process's own priority. */
const NICENESS = 0;
const OPTIONS: ProcessIsolateOptions = {
  log: createLog({ level: 'error', role: 'bench' }),
  allowWeakIsolation: false,
  niceness: NICENESS,
};
const KINDS = [createProcessIsolate, createThreadIsolate, createStrictIsolate];
/** 1 KB, as a client might send it. */
const BODY = JSON.stringify({
  order: 4711,
  customer: { id: 'c-104', name: 'Ann Example', mail: 'ann@example.com', tags: ['new', 'eu', 'newsletter'] },
  lines: Array.from({ length: 14 }, (_item, n) => ({ sku: `sku-${1000 + n}`, count: n + 1, price: 9.95 * (n + 1) })),
  note: 'x'.repeat(160),
});
const META = JSON.stringify({ method: 'POST', path: '/echo', headers: { 'content-type': 'application/json' } });
const DEADLINE = Date.now() + 3_600_000;

/** One worker of the process isolate that echoes 1 KB of JSON, against the same context without the process, and the process without the context. Medians of alternating rounds. */
export async function measureIsolate(rounds: number, seconds: number): Promise<IsolateResult> {
  const samples = { batched: [] as number[], inThread: [] as number[], serial: [] as number[], echo: [] as number[] };
  const isolate = createProcessIsolate(OPTIONS);
  const process = await openWorker(isolate);
  const echo = openEcho();
  const realm = openRealm();
  try {
    for (let round = 0; round < rounds; round++) {
      samples.batched.push(await batchedPerS(process, seconds));
      samples.inThread.push(inThreadPerS(realm, seconds));
      samples.serial.push(await serialMs(process, seconds));
      samples.echo.push(await echo.roundTripMs(seconds));
    }
  } finally {
    await process.worker.close();
    await isolate.close?.();
    await echo.close();
  }
  return {
    batchedPerS: median(samples.batched),
    inThreadPerS: median(samples.inThread),
    serialMs: median(samples.serial),
    echoMs: median(samples.echo),
    kinds: await measureKinds(rounds, seconds),
  };
}

/** The three side by side, in turns. */
async function measureKinds(rounds: number, seconds: number): Promise<readonly KindRow[]> {
  const subjects = [];
  const kinds = KINDS.map((create) => create(OPTIONS));
  try {
    for (const kind of kinds) {
      const test = await openWorker(kind);
      subjects.push({ kind, test, calls: [] as number[], cpuUs: [] as number[], serialMs: [] as number[] });
    }
    for (let round = 0; round < rounds; round++) {
      for (const { test, calls, cpuUs, serialMs: serial } of subjects) {
        const pids = processTree(test.worker.pid);
        const before = cpuSeconds(pids);
        const began = performance.now();
        const perS = await batchedPerS(test, seconds);
        const count = (perS * (performance.now() - began)) / 1_000;
        calls.push(perS);
        cpuUs.push(((cpuSeconds(pids) - before) * 1e6) / count);
        serial.push(await serialMs(test, seconds / 2));
      }
    }
    const rows: KindRow[] = [];
    for (const { kind, test, calls, cpuUs, serialMs: serial } of subjects) {
      const pssMb = pssOf(test) / 2 ** 20;
      const second = await openWorker(kind);
      await batchedPerS(second, seconds / 2);
      rows.push({
        name: kind.name,
        callsPerS: median(calls),
        cpuUsPerCall: median(cpuUs),
        serialMs: median(serial),
        pssMb,
        secondPssMb: pssOf(test, second) / 2 ** 20 - pssMb,
      });
      await second.worker.close();
    }
    return rows;
  } finally {
    for (const { test } of subjects) await test.worker.close();
    for (const kind of kinds) await kind.close?.();
  }
}

/** Threads are in one process, which counts once. */
function pssOf(...tests: readonly TestWorker[]): number {
  return pssBytes([...new Set(tests.flatMap(({ worker }) => processTree(worker.pid)))]);
}

export interface TestWorker {
  readonly worker: Worker;
  /** Called with every frame of replies, and how many there are in it. */
  onReplies: (count: number) => void;
}

/** A worker whose func answers its body. */
export async function openWorker(isolate: IsolateKind): Promise<TestWorker> {
  const test: { worker?: Worker; onReplies: TestWorker['onReplies'] } = { onReplies: () => undefined };
  const worker = await isolate.start(
    {
      bundle: 'bench',
      revision: '0'.repeat(12),
      source: SOURCE,
      operations: [{ operationId: 'echo', handler: 'echo' }],
      config: {},
      services: {},
      memoryMb: 128,
      concurrency: 1_000,
      stackTraces: true,
      startTimeoutMs: 10_000,
    },
    {
      onReplies: (_tag, envelope) => test.onReplies(new Envelope(envelope).count),
      onLog: () => undefined,
      onOperation: () => Promise.reject(new Error('no operations here')),
      onExit: () => undefined,
    },
  );
  return Object.assign(test, { worker });
}

/** Envelopes as a runner gets them: it passes them on unopened. */
function envelopeOf(calls: number): Buffer {
  const body = Buffer.from(BODY);
  return encodeCalls(
    Array.from({ length: calls }, () => ({
      id: parseId(newId()) ?? Buffer.alloc(16),
      deadline: DEADLINE,
      operation: 0,
      flags: CallFlag.text,
      attempt: 1,
      meta: META,
      body,
    })),
  );
}

/** Calls a second of a worker that always has `ON_THEIR_WAY` batches. */
export async function batchedPerS(test: TestWorker, seconds: number): Promise<number> {
  const batches = Array.from({ length: ON_THEIR_WAY }, () => envelopeOf(BATCH));
  const { promise, resolve } = Promise.withResolvers<number>();
  const began = performance.now();
  const end = began + seconds * 1_000;
  let answered = 0;
  let sent = 0;
  test.onReplies = (count) => {
    answered += count;
    const now = performance.now();
    if (now >= end && answered === sent) resolve((answered / (now - began)) * 1_000);
    if (now >= end) return;
    while (sent - answered <= (ON_THEIR_WAY - 1) * BATCH) send();
  };
  function send(): void {
    const batch = batches[(sent / BATCH) % ON_THEIR_WAY];
    sent += BATCH;
    if (batch !== undefined) test.worker.send(1, batch, 0);
  }
  for (let first = 0; first < ON_THEIR_WAY; first++) send();
  return await promise;
}

async function serialMs(test: TestWorker, seconds: number): Promise<number> {
  const call = envelopeOf(1);
  return await repeat(seconds, async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    test.onReplies = () => resolve();
    test.worker.send(1, call, 0);
    await promise;
  });
}

/** The guest's realm as a worker has it, in this thread. */
function openRealm(): Realm {
  const bootstrap = createBootstrap(readFileSync(join(root, 'dist/inside/guest.js'), 'utf8'), undefined);
  const realm = createRealm(bootstrap);
  realm.startClock();
  const operations = [{ operationId: 'echo', handler: 'echo' }];
  const spec = { bundle: 'bench', revision: '', operations, config: {}, services: {}, stackTraces: true };
  realm.guest.setup(JSON.stringify(spec), Date.now());
  const bundle = realm.run(new Script(`(function (module, exports, require) {${SOURCE}})`)) as BundleFunction;
  const failure = realm.guest.evaluate(bundle);
  if (failure !== '') throw new Error(failure);
  realm.guest.init();
  while (realm.guest.take() !== undefined);
  return realm;
}

/** Entered and emptied in turns of `BATCH` calls, texts in and texts out, no envelopes. */
function inThreadPerS(realm: Realm, seconds: number): number {
  const { guest } = realm;
  const began = performance.now();
  const end = began + seconds * 1_000;
  let calls = 0;
  let now = began;
  for (; now < end; now = performance.now()) {
    realm.setNow();
    for (let slot = 0; slot < BATCH; slot++) guest.enter(slot, 0, 4, 1, 1, 2, 3, slot, DEADLINE, META, BODY);
    realm.tick();
    while (guest.take() !== undefined) calls++;
  }
  return (calls / (now - began)) * 1_000;
}

interface Echo {
  roundTripMs(seconds: number): Promise<number>;
  close(): Promise<void>;
}

function openEcho(): Echo {
  const child = spawn(process.execPath, [join(root, 'bench/echo.mjs')], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const socket = child.stdio[3];
  if (!(socket instanceof Socket)) throw new Error('no socket on fd 3');
  const bytes = envelopeOf(1);
  let got = 0;
  let arrived = (): void => undefined;
  socket.on('data', (chunk: Buffer) => {
    got += chunk.length;
    if (got < bytes.length) return;
    got = 0;
    arrived();
  });
  return {
    roundTripMs: (seconds) =>
      repeat(seconds, async () => {
        const { promise, resolve } = Promise.withResolvers<void>();
        arrived = resolve;
        socket.write(bytes);
        await promise;
      }),
    async close() {
      const exit = once(child, 'exit');
      socket.end();
      await exit;
    },
  };
}
