import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { describeCalls } from './isolate-calls.ts';
import { WorkerStarter } from './isolate-harness.ts';
import { describeLifetime } from './isolate-lifetime.ts';
import { describeResults } from './isolate-results.ts';
import { describeServices } from './isolate-services.ts';

/**
 * What every isolate promises to the runner and to the funcs in it.
 * @param exceptions sentences that mean nothing in this one
 */
export function describeIsolate(name: string, create: () => IsolateKind, exceptions: readonly string[] = []): void {
  describe(`isolate contract: ${name}`, () => {
    let kind: IsolateKind;
    const workers = new WorkerStarter(() => kind);
    before(() => {
      kind = create();
    });
    beforeEach(function () {
      if (exceptions.includes(this.currentTest?.title ?? '')) this.skip();
    });
    afterEach(() => workers.endAll());
    after(async () => await kind.close?.());

    describeCalls(workers);
    describeResults(workers);
    describeServices(workers);
    describeLifetime(workers, () => kind);
  });
}
