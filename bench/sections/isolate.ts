import { measureIsolate } from '../measures/isolate.ts';
import type { Section } from '../page.ts';

export const isolate: Section = async ({ say, table, must }, isQuick) => {
  const { batchedPerS, inThreadPerS, serialMs, echoMs, kinds } = await measureIsolate(isQuick ? 2 : 5, isQuick ? 1 : 3);
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
  const load = 'one worker of `process`';
  must({
    load: `${load}, batches`,
    must: '≥ 0.6× in-thread',
    found: `${batched.toFixed(2)}×`,
    isMet: batched >= 0.6,
  });
  must({
    load: `${load}, one at a time`,
    must: '≤ 2× a bare echo',
    found: `${serial.toFixed(2)}×`,
    isMet: serial <= 2,
  });
};
