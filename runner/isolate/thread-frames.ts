/**
 * Frames between a runner and the child its threads share, over the same channel as everybody's (`Channel`). Every
 * payload begins with the thread's number (u32), but for `hello`, which has none. Integers are big-endian.
 */
export const ThreadFrame = {
  /** c→r: the child is up and has no thread yet. */
  hello: 1,
  /** r→c: start a thread; u32 memoryMb. */
  start: 2,
  /** both: bytes of the thread's own stream of frames. */
  bytes: 3,
  /** both: u32, so many bytes of it were taken. */
  taken: 4,
  /** r→c: end the thread, now. */
  end: 5,
  /** c→r: the thread has ended, whatever it did; u8 1 = it ran out of memory, then why in words. */
  ended: 6,
} as const;

/**
 * Most memory of a thread's heap for young objects, in MB, beside its bundle's. V8's own bound is 96: too much to grant
 * to each of many threads, and too much to move into a heap of 64 [V8 ends the process when it does not fit].
 */
export const YOUNG_MB = 24;

/** Longest piece of a thread's stream in one frame. */
export const PIECE_BYTES = 256 * 1024;

/** The head of a frame: the thread's number, and another where the kind has one. */
export function threadHead(thread: number, value?: number): Buffer {
  const head = Buffer.allocUnsafe(value === undefined ? 4 : 8);
  head.writeUInt32BE(thread, 0);
  if (value !== undefined) head.writeUInt32BE(value, 4);
  return head;
}
