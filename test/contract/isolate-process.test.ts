import { describeJsIsolate } from './isolate-contract.ts';
import { openProcessIsolate } from './isolate-harness.ts';

describeJsIsolate('process', openProcessIsolate);
