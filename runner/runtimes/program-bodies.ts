import { STREAM_ID_BYTES } from '../../core/wire/direct.ts';
import { FrameKind } from '../isolate/channel.ts';
import type { WorkerEvents } from '../isolate/isolate.ts';
import type { AnswerBody } from './answer-body.ts';
import { CallBody } from './call-body.ts';

/** The bodies on their way into and out of programs, by the ids of their calls; the same frames as a worker of frames has. */
export class ProgramBodies {
  readonly #onStream: WorkerEvents['onStream'];
  readonly #calls = new Map<string, CallBody>();
  readonly #answers = new Map<string, AnswerBody>();

  constructor(onStream: WorkerEvents['onStream']) {
    this.#onStream = onStream;
  }

  /** The body of a call, which is about to come. */
  open(id: Buffer): CallBody {
    const body = new CallBody((bytes) => this.#send(id, FrameKind.streamCredit, u32(bytes)));
    this.#calls.set(keyOf(id), body);
    return body;
  }

  /** Sends the body of an answer, which has left. */
  send(id: Buffer, body: AnswerBody): void {
    const key = keyOf(id);
    this.#answers.set(key, body);
    body.start((kind, data) => {
      if (kind !== FrameKind.streamData) {
        this.#answers.delete(key);
        this.close(id);
      }
      this.#send(id, kind, data);
    });
  }

  /** The call is over: nothing more comes of its body. */
  close(id: Buffer): void {
    if (this.#calls.size === 0) return;
    const key = keyOf(id);
    this.#calls.get(key)?.cancel();
    this.#calls.delete(key);
  }

  /** A frame of the runner's; those of unknown calls come late. */
  receive(kind: number, id: Buffer, data: Buffer): void {
    const key = keyOf(id);
    switch (kind) {
      case FrameKind.streamData:
        return this.#calls.get(key)?.push(data);
      case FrameKind.streamEnd:
        return this.#calls.get(key)?.end();
      case FrameKind.streamCredit:
        return this.#answers.get(key)?.give(data.readUInt32BE(0));
      default:
        return this.#reset(key, data.toString());
    }
  }

  #reset(key: string, why: string): void {
    const answer = this.#answers.get(key);
    const call = this.#calls.get(key);
    this.#answers.delete(key);
    this.#calls.delete(key);
    call?.break(why);
    answer?.stop();
  }

  #send(id: Buffer, kind: number, data: Buffer): void {
    this.#onStream?.(kind, Buffer.concat([id, data]));
  }
}

function keyOf(id: Buffer): string {
  return id.toString('latin1', 0, STREAM_ID_BYTES);
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
