import './host.inside.ts';
import type { MessagePort } from 'node:worker_threads';
import { stream } from './thread-socket.inside.ts';

/**
 * A worker in a thread: the same host as in a process of its own, with a stream over a MessagePort where that has a
 * socket on fd 3 (tools/build-inside.mjs puts thread-socket.inside.ts in the place of `node:net`).
 * piscina loads this file and runs it once: one task, as long as the thread. It never settles; aborting it is the kill.
 */
export default async function serve({ port }: { readonly port: MessagePort }): Promise<never> {
  port.on('message', (message: Uint8Array | number) => {
    if (typeof message === 'number') stream.acknowledged(message);
    else stream.receive(Buffer.from(message.buffer));
  });
  stream.connect({
    send: (bytes) => port.postMessage(bytes, [bytes.buffer as ArrayBuffer]),
    acknowledge: (bytes) => port.postMessage(bytes),
  });
  return await new Promise<never>(() => undefined);
}
