import type { IsolateKind } from '../../../runner/isolate/isolate.ts';
import { describeFresh } from '../../contract/isolate-fresh.ts';
import { openProcessIsolate, WorkerStarter } from '../../contract/isolate-harness.ts';

describe('runner/isolate/host/realms', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = openProcessIsolate();
  });
  afterEach(() => workers.endAll());
  after(async () => await kind.close?.());

  describeFresh(workers);
});
