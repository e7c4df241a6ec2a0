import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { hasPulse } from '../../../runner/heartbeat.ts';
import type { Worker } from '../../../runner/isolate/isolate.ts';

/** A worker of which only the answer to a ping is asked. */
function workerThat(ping: Worker['ping']): Worker {
  return {
    id: 'w1',
    pid: 0,
    backlogBytes: 0,
    ping,
    send() {},
    stream() {},
    cancel() {},
    kill() {},
    close: () => Promise.resolve(),
  };
}

describe('runner/heartbeat', () => {
  it('is there while the worker answers, and not when it is silent or gone', async () => {
    assert.equal(
      await hasPulse(
        workerThat(() => Promise.resolve()),
        1_000,
      ),
      true,
    );
    assert.equal(
      await hasPulse(
        workerThat(() => new Promise(() => undefined)),
        10,
      ),
      false,
    );
    assert.equal(
      await hasPulse(
        workerThat(() => Promise.reject(new Error('gone'))),
        1_000,
      ),
      false,
    );
  });

  it('is there when the answer came in time and this process was too busy to read it', async () => {
    // The pong comes with the next reading of events, which the loop below puts off until the time is over.
    const pulse = hasPulse(
      workerThat(async () => void (await stat(import.meta.dirname))),
      20,
    );
    const end = performance.now() + 60;
    while (performance.now() < end);
    assert.equal(await pulse, true);
  });
});
