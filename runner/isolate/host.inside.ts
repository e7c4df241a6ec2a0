import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FrameKind } from './channel.ts';
import { BundleHost } from './host/bundle-host.ts';
import { openChannel } from './host/fd-channel.ts';
import { lockProcess } from './host/lock.ts';
import { createBootstrap } from './host/realm.ts';
import { rehearse } from './host/rehearsal.ts';

/**
 * The process a worker runs in: a locked-down child of the runner that holds one bundle. It reads frames on fd 3, enters
 * the guest, and sends what the guest has for it. Built by tools/build-inside.mjs.
 */

/** Longest frame the child accepts: a bundle of 64 MiB with its spec and its code cache. */
const MAX_FRAME_BYTES = 96 * 1024 * 1024;

const inside = __dirname;

// Every entry into the guest catches for itself, so this is memory that ran out or a defect of ours: calls would wait for
// nothing. The error may be the guest's and is never touched.
process.on('uncaughtException', () => process.exit(1));

const channel = openChannel(MAX_FRAME_BYTES, {
  onFrame,
  // The runner is gone, or speaks nonsense: there is nothing left to work for.
  onEnd: () => process.exit(0),
});
const guestCode = readFileSync(join(inside, 'guest.js'), 'utf8');
const bootstrap = createBootstrap(guestCode, readCache(join(inside, 'guest.cache')));
const host = new BundleHost({
  bootstrap,
  send: channel.send.bind(channel),
  flush: () => channel.flush(),
  backlogBytes: () => channel.backlogBytes,
  onStopped: () => channel.end(() => process.exit(0)),
});
process.on('unhandledRejection', (reason, promise) => host.onRejection(reason, promise));

lockProcess();
channel.send(FrameKind.hello);

function readCache(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined; // slower, not worse
  }
}

function onFrame(kind: number, payload: Buffer): void {
  try {
    if (kind === FrameKind.rehearse) rehearse(bootstrap);
    else host.receive(kind, payload);
  } catch {
    // A frame that makes no sense: whoever is there, it is not our runner.
    process.exit(1);
  }
}
