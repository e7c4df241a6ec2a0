import { describeIsolate } from './isolate-contract.ts';
import { openProcessIsolate } from './isolate-harness.ts';

describeIsolate('process', openProcessIsolate);
