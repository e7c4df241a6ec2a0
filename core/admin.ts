import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { FuncatronError } from './errors.ts';
import type { Closable } from './lifecycle.ts';

export interface AdminOptions {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  /** Why this process is not ready; empty = ready. */
  ready(): readonly string[];
  metrics(): Promise<string>;
}

export interface Admin extends Closable {
  readonly port: number;
}

/**
 * The admin port of a role: `/healthz` (the process answers), `/readyz` (503 with the reasons while it cannot do its
 * work), `/metrics`. On loopback unless told otherwise; it needs no token and tells no secrets.
 * @throws INVALID_CONFIG when the port is in use
 */
export async function openAdmin(options: AdminOptions): Promise<Admin> {
  const server = createServer((req, res) => void answer(options, req, res));
  server.keepAliveTimeout = 1_000;
  await listen(server, options.port, options.host, '--admin-port');
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * Listens, or says which flag to change.
 * @throws INVALID_CONFIG when the address is taken or may not be used
 */
export async function listen(
  server: ReturnType<typeof createServer>,
  port: number,
  host: string,
  flag: string,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === 'EADDRINUSE' ? 'is already in use' : `cannot be used (${cause.code})`;
      const hint = `stop what listens there, or choose another port with ${flag} (0 takes any free one)`;
      reject(new FuncatronError('INVALID_CONFIG', `port ${port} on ${host} ${reason}`, { cause, data: { hint } }));
    });
    server.listen(port, host, resolve);
  });
}

async function answer(options: AdminOptions, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const path = req.url?.split('?')[0];
  if (path === '/healthz') return send(res, 200, 'application/json', '{"status":"ok"}');
  if (path === '/readyz') {
    const reasons = options.ready();
    return send(
      res,
      reasons.length === 0 ? 200 : 503,
      'application/json',
      JSON.stringify({ ready: reasons.length === 0, reasons }),
    );
  }
  if (path === '/metrics') return send(res, 200, 'text/plain; version=0.0.4; charset=utf-8', await options.metrics());
  send(res, 404, 'text/plain; charset=utf-8', 'this port has /healthz, /readyz and /metrics\n');
}

function send(res: ServerResponse, status: number, contentType: string, body: string): void {
  res
    .writeHead(status, {
      'content-type': contentType,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
    })
    .end(body);
}
