import { ThreadStream } from './thread-stream.ts';

/** Stands for `node:net` in a thread: the one socket its host opens is the thread's stream. */
export const stream = new ThreadStream();

/** What the host's `new Socket({ fd: 3 })` gives there. */
export function Socket(): ThreadStream {
  return stream;
}
