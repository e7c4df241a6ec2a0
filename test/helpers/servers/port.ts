import { connect, createServer, type AddressInfo } from 'node:net';
import { until } from '../until.ts';

/** A TCP port of 127.0.0.1 that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Settles when something listens on the port; throws after `timeoutMs`, or as soon as `died` says why it never will. */
export async function untilListening(port: number, died: () => string | undefined, timeoutMs: number): Promise<void> {
  await until(
    `a listener on port ${port}`,
    async () => {
      const reason = died();
      if (reason !== undefined) throw new Error(reason);
      return await answers(port);
    },
    timeoutMs,
  );
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
