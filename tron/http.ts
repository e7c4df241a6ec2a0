import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { listen } from '../core/admin.ts';
import { delay, type Closable } from '../core/lifecycle.ts';

/** What a stopping Tron gives its last answers to leave. */
const ANSWER_MS = 500;

/** The port of the management API. */
export interface HttpPort extends Closable {
  /** `http://127.0.0.1:8081` */
  readonly url: string;
  readonly port: number;
  /** Takes no more connections; the ones that do nothing go. */
  refuse(): void;
  /** Settles when every request has its answer, or after `waitMs`. */
  drained(waitMs: number): Promise<void>;
}

/** Listens. @throws INVALID_CONFIG when the port is taken */
export async function openHttpPort(options: {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  readonly serve: RequestListener;
}): Promise<HttpPort> {
  const closed = new AbortController();
  let isRefusing = false;
  const server = createServer((req, res) => {
    // A connection kept alive would otherwise hold up the close until its client goes.
    res.once('close', () => isRefusing && server.closeIdleConnections());
    options.serve(req, res);
  });
  await listen(server, options.port, options.host, '--tron-port');
  server.once('close', () => closed.abort());
  const { port } = server.address() as AddressInfo;

  function refuse(): void {
    if (isRefusing) return;
    isRefusing = true;
    server.close();
  }

  return {
    url: urlOf(options.host, port),
    port,
    refuse,
    drained: (waitMs) => delay(waitMs, closed.signal),
    async close() {
      refuse();
      await delay(ANSWER_MS, closed.signal);
      server.closeAllConnections();
    },
  };
}

function urlOf(host: string, port: number): string {
  const name = host === '0.0.0.0' || host === '::' ? hostname() : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}
