import { execFileSync } from 'node:child_process';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { createThreadIsolate } from '../../runner/isolate/thread.ts';
import { describeIsolate } from './isolate-contract.ts';
import { silentLog } from './isolate-harness.ts';

function openThreadIsolate(): IsolateKind {
  execFileSync(process.execPath, ['tools/build-inside.mjs']);
  return createThreadIsolate({ log: silentLog, allowWeakIsolation: false });
}

describeIsolate('thread', openThreadIsolate);
