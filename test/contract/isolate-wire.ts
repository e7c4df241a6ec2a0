import { STREAM_ID_BYTES } from '../../core/wire/direct.ts';
import { CallFlag } from '../../core/wire/envelope.ts';
import type { WorkerSpec } from '../../runner/isolate/isolate.ts';
import { FrameKind } from '../../runner/isolate/channel.ts';
import { until } from '../helpers/until.ts';
import {
  newIdBytes,
  type TestCall,
  type TestReply,
  type WorkerHarness,
  type WorkerStarter,
} from './isolate-harness.ts';

/** Both ends of the bodies of one call: what the runner does with its frames. */
export class TestStream {
  readonly reply: Promise<TestReply>;
  /** What came of the body of the answer, and how it ended. */
  readonly pieces: Buffer[] = [];
  ended: 'end' | 'reset' | undefined;
  /** With its end: trailers, or the reason. */
  endText = '';
  /** Bytes that the worker would take beyond the first MiB. */
  credit = 0;
  /** Whether what comes is paid for at once. */
  isReading = true;
  readonly #id = newIdBytes();
  readonly #harness: WorkerHarness;
  readonly #streams: Map<string, TestStream>;

  constructor(harness: WorkerHarness, streams: Map<string, TestStream>, call: TestCall) {
    this.#harness = harness;
    this.#streams = streams;
    streams.set(this.#id.toString('hex'), this);
    this.reply = harness.call({ flags: CallFlag.direct | CallFlag.fetches, ...call, id: this.#id });
  }

  get bytes(): number {
    let bytes = 0;
    for (const piece of this.pieces) bytes += piece.length;
    return bytes;
  }

  get text(): string {
    return Buffer.concat(this.pieces).toString();
  }

  /** Settles when the body of the answer has ended. */
  async whole(): Promise<string> {
    await this.reply;
    await until('the body ends', () => this.ended !== undefined);
    return this.text;
  }

  send(...pieces: readonly (string | Buffer)[]): void {
    for (const piece of pieces)
      this.#harness.worker.stream(FrameKind.streamData, this.#id, Buffer.from(piece as string));
  }

  end(): void {
    this.#harness.worker.stream(FrameKind.streamEnd, this.#id);
  }

  /** As the runner does when the client has hung up. */
  hangUp(): void {
    this.#harness.worker.stream(FrameKind.streamReset, this.#id, Buffer.from('the client has hung up'));
    this.#harness.worker.cancel(this.#id);
  }

  give(bytes: number): void {
    const credit = Buffer.alloc(4);
    credit.writeUInt32BE(bytes);
    this.#harness.worker.stream(FrameKind.streamCredit, this.#id, credit);
  }

  onFrame(kind: number, data: Buffer): void {
    if (this.ended !== undefined) throw new Error(`frame ${kind} after the end`);
    switch (kind) {
      case FrameKind.streamData:
        this.pieces.push(Buffer.from(data));
        if (this.isReading) this.give(data.length);
        return;
      case FrameKind.streamCredit:
        this.credit += data.readUInt32BE(0);
        return;
      default:
        this.ended = kind === FrameKind.streamEnd ? 'end' : 'reset';
        this.endText = data.toString();
        this.#streams.delete(this.#id.toString('hex'));
    }
  }
}

/** A worker whose funcs stream. */
export class StreamWorker {
  readonly harness: WorkerHarness;
  readonly #streams = new Map<string, TestStream>();

  constructor(harness: WorkerHarness) {
    this.harness = harness;
    harness.onStream = (kind, payload) => {
      this.#streams.get(payload.toString('hex', 0, STREAM_ID_BYTES))?.onFrame(kind, payload.subarray(STREAM_ID_BYTES));
    };
  }

  /** A call whose body comes as a stream. */
  open(call: TestCall = {}): TestStream {
    return new TestStream(this.harness, this.#streams, call);
  }

  /** A call without one, whose answer may be long. */
  get(call: TestCall = {}): TestStream {
    return this.open({ flags: CallFlag.text | CallFlag.fetches, ...call });
  }

  /** Settles when there is a line with this text. */
  async logged(text: string): Promise<void> {
    await until(`"${text}" is logged`, () => this.lines.some((line) => line.includes(text)));
  }

  get lines(): string[] {
    return this.harness.logs.map(({ message }) => message);
  }
}

/** Starts a worker of one operation, `run`, that reads its body piece by piece. */
export async function startStreaming(
  workers: WorkerStarter,
  source: string,
  overrides: Partial<WorkerSpec> = {},
): Promise<StreamWorker> {
  const operations = [{ operationId: 'run', handler: 'run', isDirect: true }];
  return new StreamWorker(await workers.start(source, { operations, ...overrides }));
}
