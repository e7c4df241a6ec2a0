import type { MessageProperties } from './broker.ts';
import type { MemoryQueue } from './memory-queue.ts';

/** A message as it was published; one for all the queues it went to. */
export interface Message {
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly properties: MessageProperties;
}

/** A message in one queue. */
export interface Entry {
  readonly message: Message;
  /** Its row in the journal; 0 when it has none. */
  readonly journalId: number;
  /** Unix ms; `Infinity`: never. */
  readonly expiresAt: number;
  /** Grows along the queue, so that what comes back finds its place again. */
  position: number;
  /** How often a consumer died with it. */
  returns: number;
  redelivered: boolean;
}

/** Who takes deliveries; see `MemoryConsumer`. */
export interface Receiver {
  /** How many more deliveries it takes now. */
  readonly room: number;
  deliver(entry: Entry): void;
  /** The queue was deleted under it. */
  queueGone(): void;
}

/** What a queue asks of the broker it is in. */
export interface QueueOwner {
  now(): number;
  /** The broker is through with the entry. */
  release(entry: Entry): void;
  /** The entry left the queue undelivered: to be dead-lettered or dropped. */
  discard(queue: MemoryQueue, entry: Entry): void;
  /** A consumer died with the entry; it is to be remembered across a restart. */
  returned(entry: Entry): void;
  /** Something may be deliverable in the next turn. */
  wake(queue: MemoryQueue): void;
  /** Nobody used the queue for as long as `x-expires` says. */
  expire(queue: MemoryQueue): void;
}
