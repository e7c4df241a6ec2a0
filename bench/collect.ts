import { once } from 'node:events';
import type { RoleProcess } from '../test/helpers/cluster.ts';
import { until } from '../test/helpers/until.ts';

/** For a role that `collectGarbage` shall reach: its inspector gets any free port, and listens when it is asked to. */
export const COLLECTABLE = { NODE_OPTIONS: '--inspect-port=0' };

/** Has a role collect its garbage, so that its memory is what it needs; through the inspector, which it opens at SIGUSR1. */
export async function collectGarbage(role: RoleProcess): Promise<void> {
  role.signal('SIGUSR1');
  const urlOf = (): string | undefined => /ws:\/\/\S+/.exec(role.output())?.[0];
  await until('its inspector listens', () => urlOf() !== undefined);
  const socket = new WebSocket(urlOf() ?? '');
  await once(socket, 'open');
  // Buffers go with the second: their finalizers ran in between.
  for (const id of [1, 2]) {
    const done = once(socket, 'message');
    socket.send(JSON.stringify({ id, method: 'HeapProfiler.collectGarbage' }));
    await done;
  }
  socket.close();
  await once(socket, 'close');
}
