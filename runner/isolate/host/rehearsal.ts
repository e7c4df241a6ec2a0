import type { Script } from 'node:vm';
import { encodeCalls } from '../../../core/wire/envelope.ts';
import { type LoadSpec, SEED_BYTES } from '../bridge.ts';
import { FrameKind } from '../channel.ts';
import { BundleHost } from './bundle-host.ts';

/**
 * Runs a bundle of our own in a realm that is dropped afterwards, from its load to the answer of a call and its end: V8
 * compiles a function when it runs for the first time, and a process that waits for its bundle has the time.
 */
export function rehearse(bootstrap: Script): void {
  const host = new BundleHost({
    bootstrap,
    send(kind) {
      if (kind === FrameKind.ready) next(FrameKind.calls, callFrame());
      if (kind === FrameKind.replies) next(FrameKind.close, Buffer.alloc(0));
    },
    backlogBytes: () => 0,
    onStopped: () => undefined,
  });
  // What the runner sends comes in turns of its own.
  const next = (kind: number, payload: Buffer): void => void setImmediate(() => host.receive(kind, payload));
  next(FrameKind.load, loadFrame());
}

function loadFrame(): Buffer {
  const spec: LoadSpec = {
    bundle: '',
    revision: '',
    operations: [{ operationId: 'run', handler: 'run' }],
    config: {},
    services: {},
    stackTraces: true,
  };
  const json = Buffer.from(JSON.stringify(spec));
  const head = Buffer.alloc(SEED_BYTES + 4);
  head.writeUInt32BE(json.length, SEED_BYTES);
  return Buffer.concat([head, json, Buffer.from('exports.run = (event) => ({ method: event.method });')]);
}

function callFrame(): Buffer {
  const call = {
    id: Buffer.alloc(16),
    deadline: Date.now() + 60_000,
    flags: 0,
    attempt: 1,
    operation: 0,
    meta: Buffer.from('{"method":"GET"}'),
    body: Buffer.alloc(0),
  };
  return Buffer.concat([Buffer.alloc(12), encodeCalls([call])]);
}
