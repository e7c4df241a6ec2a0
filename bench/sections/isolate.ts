import { measureIsolate } from '../measures/isolate.ts';
import { type Section, verdict } from '../page.ts';

export const isolate: Section = async ({ say, table }, isQuick) => {
  const { batchedPerS, inThreadPerS, serialMs, echoMs, kinds } = await measureIsolate(isQuick ? 2 : 5, isQuick ? 1 : 4);
  const batched = batchedPerS / inThreadPerS;
  const serial = serialMs / echoMs;
  say();
  say('## The isolates');
  table(
    ['one worker of `process`, 1 KB of JSON echoed', ''],
    [
      ['batches of 32 through the isolate', `${batchedPerS.toFixed(0)} calls/s`],
      ['the same context called in-thread', `${inThreadPerS.toFixed(0)} calls/s`],
      ['one call at a time, p50', `${(serialMs * 1000).toFixed(0)} µs`],
      ['a bare echo of the same bytes over fd 3, p50', `${(echoMs * 1000).toFixed(0)} µs`],
    ],
  );
  say(`batched / in-thread: **${batched.toFixed(2)}** (must be ≥ 0.6: ${verdict(batched >= 0.6)})`);
  say();
  say(`one at a time / bare echo: **${serial.toFixed(2)}** (must be ≤ 2: ${verdict(serial <= 2)})`);
  say();
  say('The three side by side: the same batches and calls; memory and CPU time of the process the worker is in.');
  table(
    ['isolation', 'calls/s', 'CPU µs per call', 'one at a time, p50 µs', 'PSS MB', 'a second worker adds MB'],
    kinds.map((kind) => [
      kind.name,
      kind.callsPerS,
      kind.cpuUsPerCall,
      kind.serialMs * 1000,
      kind.pssMb,
      kind.secondPssMb,
    ]),
  );
};
