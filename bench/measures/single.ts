import { join } from 'node:path';
import { connect } from 'amqplib';
import { createLog } from '../../core/log.ts';
import { readArchive } from '../../core/bundle/archive.ts';
import { encodeCalls } from '../../core/wire/envelope.ts';
import { newId, parseId } from '../../core/id.ts';
import { createProcessIsolate } from '../../runner/isolate/process.ts';
import { benchArchive, openCluster } from '../cluster.ts';
import { BODY } from '../bodies.ts';
import { load } from '../load.ts';
import { median, root, start } from '../processes.ts';
import { repeat } from '../repeat.ts';
import { openBare } from '../subjects.ts';

export interface SingleResult {
  readonly funcatronMs: number;
  readonly httpMs: number;
  readonly amqpMs: number;
  readonly isolateMs: number;
}

/**
 * The median latency of one connection, and of its parts in the same run: a bare `node:http` server, one request and
 * reply over the same RabbitMQ with amqplib alone, and one round trip through the process isolate. Medians of
 * alternating rounds.
 */
export async function measureSingle(rounds: number, seconds: number): Promise<SingleResult> {
  const cluster = await openCluster(1);
  const bare = await openBare();
  try {
    await cluster.deploy(await benchArchive());
    const url = `${cluster.role('frontend-1').url}/hello/ann`;
    await load({ url, connections: 1, seconds: 2 });
    const samples = {
      funcatronMs: [] as number[],
      httpMs: [] as number[],
      amqpMs: [] as number[],
      isolateMs: [] as number[],
    };
    for (let round = 0; round < rounds; round++) {
      samples.funcatronMs.push((await load({ url, connections: 1, seconds })).p50Ms);
      samples.httpMs.push((await load({ url: bare.url, connections: 1, seconds })).p50Ms);
      samples.amqpMs.push(await amqpRoundTripMs(cluster.rabbit.url(), seconds));
      samples.isolateMs.push(await isolateRoundTripMs(seconds));
    }
    return {
      funcatronMs: median(samples.funcatronMs),
      httpMs: median(samples.httpMs),
      amqpMs: median(samples.amqpMs),
      isolateMs: median(samples.isolateMs),
    };
  } finally {
    await bare.stop();
    await cluster.close();
  }
}

/** One request and reply through two queues with amqplib alone: requester and responder are processes, noDelay is on. */
async function amqpRoundTripMs(url: string, seconds: number): Promise<number> {
  const work = `bench.${newId()}`;
  const args = [join(root, 'bench/responder.mjs'), url, work];
  const responder = await start(process.execPath, args, {}, (text) => text.includes('ready'));
  const connection = await connect(url, { noDelay: true });
  try {
    const channel = await connection.createChannel();
    const { queue: replies } = await channel.assertQueue('', { exclusive: true });
    let arrived = (): void => {};
    await channel.consume(replies, () => arrived(), { noAck: true });
    const body = Buffer.from(BODY);
    return await repeat(seconds, () => {
      const reply = new Promise<void>((resolve) => (arrived = resolve));
      channel.sendToQueue(work, body, { replyTo: replies });
      return reply;
    });
  } finally {
    await connection.close();
    await responder.stop();
  }
}

/** One call through the process isolate, bundle loaded and hot. */
async function isolateRoundTripMs(seconds: number): Promise<number> {
  const { files } = await readArchive(await benchArchive());
  let arrived = (): void => {};
  const isolate = createProcessIsolate({
    log: createLog({ level: 'error', role: 'bench' }),
    allowWeakIsolation: false,
  });
  const worker = await isolate.start(
    {
      bundle: 'bench',
      revision: '0'.repeat(12),
      source: files.get('bundle.js')?.toString() ?? '',
      operations: [{ operationId: 'greet', handler: 'greet' }],
      config: {},
      services: {},
      memoryMb: 128,
      concurrency: 100,
      stackTraces: true,
      startTimeoutMs: 10_000,
    },
    {
      onReplies: () => arrived(),
      onLog: () => {},
      onOperation: () => Promise.reject(new Error('no operations here')),
      onExit: () => {},
    },
  );
  try {
    const meta = JSON.stringify({
      method: 'POST',
      path: '/hello/ann',
      params: { name: 'ann' },
      headers: { 'content-type': 'application/json' },
    });
    return await repeat(seconds, () => {
      const reply = new Promise<void>((resolve) => (arrived = resolve));
      const id = parseId(newId()) ?? Buffer.alloc(16);
      worker.send(
        1,
        encodeCalls([
          { id, deadline: Date.now() + 30_000, operation: 0, flags: 4, attempt: 1, meta, body: Buffer.from(BODY) },
        ]),
        0,
      );
      return reply;
    });
  } finally {
    await worker.close();
  }
}
