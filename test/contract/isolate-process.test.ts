import { describeJsIsolate } from './isolate-contract.ts';
import { JS_ISOLATES } from './isolate-harness.ts';

describeJsIsolate('process', JS_ISOLATES.process);
