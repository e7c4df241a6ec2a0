import { describeJsIsolate } from './isolate-contract.ts';
import { JS_ISOLATES } from './isolate-harness.ts';

describeJsIsolate('thread', JS_ISOLATES.thread);
