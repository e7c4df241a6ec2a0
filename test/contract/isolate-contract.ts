import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { describeCalls } from './isolate-calls.ts';
import { WorkerStarter } from './isolate-harness.ts';
import { describeLifetime } from './isolate-lifetime.ts';
import { describeResults } from './isolate-results.ts';
import { describeServices } from './isolate-services.ts';

/** What every isolate promises to the runner and to the funcs in it. */
export function describeIsolate(name: string, create: () => IsolateKind): void {
  describe(`isolate contract: ${name}`, () => {
    let kind: IsolateKind;
    const workers = new WorkerStarter(() => kind);
    before(() => {
      kind = create();
    });
    afterEach(() => workers.endAll());

    describeCalls(workers);
    describeResults(workers);
    describeServices(workers);
    describeLifetime(workers, () => kind);
  });
}
