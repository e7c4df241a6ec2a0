import { once } from 'node:events';
import { join } from 'node:path';
import { createLog } from '../../core/log.ts';
import { newId, parseId } from '../../core/id.ts';
import { type CallMeta, encodeCalls } from '../../core/wire/envelope.ts';
import { requestHead } from '../../runner/runtimes/http-request.ts';
import { createHttpRuntime } from '../../runner/runtimes/http.ts';
import { startProgram } from '../../runner/runtimes/program.ts';
import { BODY } from '../bodies.ts';
import { median, root } from '../processes.ts';

export interface HttpRuntimeResult {
  readonly runtimePerS: number;
  readonly pipePerS: number;
}

const FOLDER = join(root, 'bundles/fn-python');
const COMMAND = ['python3', '-u', 'hello.py'] as const;
/** Niceness and interpreter as in the runtime: on a busy machine those alone decide. */
const NO_WALLS = { guard: [], prlimit: undefined, catchesDaemons: false };
const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
const META: CallMeta = {
  method: 'POST',
  path: '/fn-python/',
  headers: { host: 'bench', 'content-type': 'application/json', accept: '*/*' },
};

/**
 * Calls a second of one worker of runtime `http`, one after the other, and of a bare loop that drives the same program
 * through the same kind of pipes; envelope and request are made beforehand, as in a runner that takes them off the queue. Medians of alternating rounds.
 */
export async function measureHttpRuntime(rounds: number, seconds: number): Promise<HttpRuntimeResult> {
  const runtime: number[] = [];
  const pipe: number[] = [];
  for (let round = 0; round < rounds; round++) {
    runtime.push(await runtimePerS(seconds));
    pipe.push(await pipePerS(seconds));
  }
  return { runtimePerS: median(runtime), pipePerS: median(pipe) };
}

async function runtimePerS(seconds: number): Promise<number> {
  let arrived = (): void => {};
  const kind = createHttpRuntime({ log: createLog({ level: 'silent', role: 'bench' }) });
  const worker = await kind.start(
    {
      bundle: 'bench',
      revision: '0'.repeat(12),
      source: '',
      folder: FOLDER,
      entry: COMMAND.join(' '),
      operations: [{ operationId: 'helloTo', handler: 'helloTo' }],
      config: {},
      services: {},
      memoryMb: 64,
      concurrency: 1,
      stackTraces: false,
      startTimeoutMs: 10_000,
    },
    {
      onReplies: () => arrived(),
      onLog: () => undefined,
      onOperation: () => Promise.reject(new Error('a program asks for nothing')),
      onExit: () => undefined,
    },
  );
  const meta = JSON.stringify(META);
  const body = Buffer.from(BODY);
  const id = parseId(newId()) ?? Buffer.alloc(16);
  const deadline = Date.now() + 600_000;
  const envelope = encodeCalls([{ id, deadline, operation: 0, flags: 0, attempt: 1, meta, body }]);
  try {
    return await ratePerS(seconds, () => {
      const reply = new Promise<void>((resolve) => (arrived = resolve));
      worker.send(1, envelope, 0);
      return reply;
    });
  } finally {
    await worker.close();
  }
}

async function pipePerS(seconds: number): Promise<number> {
  const child = startProgram({
    walls: NO_WALLS,
    command: COMMAND,
    folder: FOLDER,
    environment: ENVIRONMENT,
    memoryMb: 64,
  });
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new Error('python3 cannot be started');
  stderr.resume();
  const body = Buffer.from(BODY);
  const call = { id: newId(), operationId: 'helloTo', meta: META, body, deadline: Date.now() + 30_000 };
  const request = Buffer.concat([requestHead(call), body]);
  let expected = Infinity;
  let bytes = 0;
  let arrived = (): void => {};
  stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    // The same request has the same response: its length is known from the first, which comes in one piece.
    if (expected === Infinity) expected = bytes;
    if (bytes < expected) return;
    bytes = 0;
    arrived();
  });
  try {
    return await ratePerS(seconds, () => {
      const reply = new Promise<void>((resolve) => (arrived = resolve));
      stdin.write(request);
      return reply;
    });
  } finally {
    stdin.end();
    await once(child, 'close');
  }
}

/** Runs `step` over and over, after a second in which nothing is counted. */
async function ratePerS(seconds: number, step: () => Promise<void>): Promise<number> {
  const begin = performance.now() + 1_000;
  while (performance.now() < begin) await step();
  const startedAt = performance.now();
  let count = 0;
  for (; performance.now() < startedAt + seconds * 1_000; count++) await step();
  return count / ((performance.now() - startedAt) / 1_000);
}
