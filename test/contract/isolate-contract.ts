import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { describeCalls } from './isolate-calls.ts';
import { describeFresh } from './isolate-fresh.ts';
import { WorkerStarter } from './isolate-harness.ts';
import { describeHooks } from './isolate-hooks.ts';
import { describeLifetime } from './isolate-lifetime.ts';
import { describeResults } from './isolate-results.ts';
import { describeServices } from './isolate-services.ts';
import { describeStreams } from './isolate-streams.ts';

/** What every isolate of `js` promises. @param exceptions see `describeIsolate` */
export function describeJsIsolate(name: string, create: () => IsolateKind, exceptions: readonly string[] = []): void {
  describeIsolate(name, create, exceptions, (workers) => {
    describeFresh(workers);
    describeStreams(workers, 'fresh');
  });
}

/**
 * What every isolate promises to the runner and to the funcs in it.
 * @param exceptions sentences that mean nothing in this one
 * @param describeMore what more it promises
 */
export function describeIsolate(
  name: string,
  create: () => IsolateKind,
  exceptions: readonly string[] = [],
  describeMore: (workers: WorkerStarter) => void = () => undefined,
): void {
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
    describeHooks(workers);
    describeLifetime(workers, () => kind);
    describeStreams(workers, 'kept');
    describeMore(workers);
  });
}
