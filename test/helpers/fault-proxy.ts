import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type { Closable } from '../../core/lifecycle.ts';

/** Which way bytes go through the proxy: `up` to the server, `down` to the client. */
export type Direction = 'up' | 'down';

/** A TCP proxy on 127.0.0.1 that breaks connections in the ways networks do. */
export interface FaultProxy extends Closable {
  readonly port: number;
  /** The same URL, by way of the proxy. */
  through(url: string): string;
  /** Connections open now. */
  readonly connections: number;
  /** From now on each chunk arrives this much later. */
  delay(latencyMs: number): void;
  /** Stops forwarding one way, or both (half open: nobody is told); sockets stay, bytes wait. */
  pause(direction?: Direction): void;
  resume(): void;
  /** Resets every connection: both ends see RST. */
  cut(): void;
  /** Resets each connection that comes now or later once the server has sent it so many bytes; `undefined` no longer. */
  cutAfter(bytes: number | undefined): void;
  /** Resets new connections as soon as they come. */
  refuse(refuses: boolean): void;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  sentDownBytes: number;
}

/** Opens a proxy to a port of 127.0.0.1. */
export async function openFaultProxy(targetPort: number): Promise<FaultProxy> {
  const pairs = new Set<Pair>();
  const paused = new Set<Direction>();
  let latencyMs = 0;
  let limitBytes: number | undefined;
  let refuses = false;

  const listener = createServer((client) => {
    if (refuses) {
      client.resetAndDestroy();
      return;
    }
    const pair = { client, server: connect({ port: targetPort, host: '127.0.0.1' }), sentDownBytes: 0 };
    pairs.add(pair);
    forward(pair, 'up');
    forward(pair, 'down');
    apply(pair);
  });

  function forward(pair: Pair, direction: Direction): void {
    const [from, to] = direction === 'up' ? [pair.client, pair.server] : [pair.server, pair.client];
    from.on('data', (chunk: Buffer) => {
      if (latencyMs === 0) write(pair, direction, chunk);
      else setTimeout(() => write(pair, direction, chunk), latencyMs);
    });
    to.on('drain', () => apply(pair));
    // A reset travels on as a reset, a half-close as a half-close.
    from.on('error', () => reset(pair));
    from.on('end', () => to.end());
    from.on('close', () => {
      if (from.closed && to.closed) pairs.delete(pair);
    });
  }

  function write(pair: Pair, direction: Direction, chunk: Buffer): void {
    const [from, to] = direction === 'up' ? [pair.client, pair.server] : [pair.server, pair.client];
    if (to.destroyed) return;
    if (direction === 'down') pair.sentDownBytes += chunk.length;
    if (limitBytes !== undefined && pair.sentDownBytes > limitBytes) return reset(pair);
    if (!to.write(chunk)) from.pause();
  }

  function apply({ client, server }: Pair): void {
    if (paused.has('up')) client.pause();
    else client.resume();
    if (paused.has('down')) server.pause();
    else server.resume();
  }

  function reset(pair: Pair): void {
    pairs.delete(pair);
    resetSocket(pair.client);
    resetSocket(pair.server);
  }

  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as AddressInfo;
  return {
    port,
    get connections() {
      return pairs.size;
    },
    through(url) {
      const parsed = new URL(url);
      parsed.host = `127.0.0.1:${port}`;
      return parsed.href;
    },
    delay(ms) {
      latencyMs = ms;
    },
    pause(direction) {
      for (const each of direction === undefined ? (['up', 'down'] as const) : [direction]) paused.add(each);
      for (const pair of pairs) apply(pair);
    },
    resume() {
      paused.clear();
      for (const pair of pairs) apply(pair);
    },
    cut() {
      for (const pair of pairs) reset(pair);
    },
    cutAfter(bytes) {
      limitBytes = bytes;
    },
    refuse(value) {
      refuses = value;
    },
    async close() {
      for (const pair of pairs) reset(pair);
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}

/** libuv resets no socket that is being shut down, and leaves it open for ever. */
function resetSocket(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
