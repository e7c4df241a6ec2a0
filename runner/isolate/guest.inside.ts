import { type Guest, type LoadSpec, SEED_BYTES } from './bridge.ts';
import { configure, evaluate, start, stop } from './guest/bundle.ts';
import { abort, enter } from './guest/calls.ts';
import { setTimeOrigin } from './guest/clock.ts';
import { closeErrors, installGlobals } from './guest/globals.ts';
import { reportUncaught } from './guest/log.ts';
import { settle, shareRoom } from './guest/operations.ts';
import { onStream } from './guest/streams.ts';
import { take, takeMeta } from './guest/outbox.ts';
import { seedRandom } from './guest/random.ts';
import { announce, copyOfWindow, receive, shared, takeBytes } from './guest/shared.ts';
import { runTimer } from './guest/timers.ts';

// Now and not in `setup`: a realm waits for its bundle.
installGlobals();

/**
 * The guest's side of the bridge: the first code that runs in a worker's context, before the bundle and with every
 * primordial still as V8 made it. Built by tools/build-inside.mjs into a script whose value is this object.
 */
export const guest: Guest = {
  shared,
  promises: Promise.prototype,
  setup(json, unixMs) {
    const spec = JSON.parse(json) as LoadSpec;
    setTimeOrigin(unixMs);
    seedRandom(copyOfWindow(SEED_BYTES));
    if (!spec.stackTraces) closeErrors();
    if (spec.state === 'fresh') shareRoom();
    configure(spec);
  },
  evaluate,
  init: () => void start(),
  destroy: () => void stop(),
  enter,
  abort,
  timer: runTimer,
  settle,
  stream: onStream,
  stray: (reason) => reportUncaught('a promise that nothing handles', reason),
  announce,
  receive,
  take,
  takeMeta,
  takeBytes,
};
