import { type Source, sourceOf, type Stream } from './outgoing.ts';
import { settles } from './turn.ts';

/**
 * How long an answer waits for the first piece of its body: what throws before it is answered like any func that throws.
 * Then it goes out, and a source that throws breaks the answer off.
 */
const FIRST_PIECE_MS = 250;

/** The body with its first piece made, or not much time lost in waiting for it. Rejects with what the source threw meanwhile. */
export async function beginStream(stream: Stream): Promise<Stream> {
  const source = sourceOf(stream);
  const first = Promise.resolve(source.next());
  if (await settles(first, FIRST_PIECE_MS)) await first;
  return new Begun(source, first);
}

/** A source that has been asked for its first piece already. */
class Begun implements AsyncIterableIterator<unknown> {
  readonly #source: Source;
  #first: Promise<IteratorResult<unknown, unknown>> | undefined;

  constructor(source: Source, first: Promise<IteratorResult<unknown, unknown>>) {
    this.#source = source;
    this.#first = first;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<unknown, unknown>> {
    const next = this.#first ?? Promise.resolve(this.#source.next());
    this.#first = undefined;
    return next;
  }

  async return(): Promise<IteratorResult<unknown, unknown>> {
    await this.#source.return?.();
    return { done: true, value: undefined };
  }
}
