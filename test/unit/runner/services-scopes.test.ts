import assert from 'node:assert/strict';
import { parseId, newId } from '../../../core/id.ts';
import { encodeReplies } from '../../../core/wire/envelope.ts';
import { Scopes, type Vended } from '../../../runner/services/scopes.ts';
import { waitMsOf } from '../../../runner/services/service.ts';

/** Takes and writes down what becomes of it. */
function vendor(name: string, released: string[], failure?: Error): () => Vended {
  return () => ({
    release(success) {
      released.push(`${name} ${success ? 'committed' : 'rolled back'}`);
      return success && failure !== undefined ? Promise.reject(failure) : Promise.resolve();
    },
  });
}

function answerOf(callId: string): Buffer {
  const id = parseId(callId) ?? assert.fail();
  return encodeReplies([{ id, status: 200, flags: 0, waitUs: 0, funcUs: 0, meta: '', body: undefined }]);
}

describe('runner/services/scopes', () => {
  let scopes: Scopes;
  let released: string[];
  beforeEach(() => {
    scopes = new Scopes();
    released = [];
  });
  afterEach(() => scopes.close());

  const soon = (): number => Date.now() + 10_000;

  it('vends one item for each service and call, and commits them in the order they were taken', async () => {
    const callId = newId();
    const [db, other] = [{}, {}];
    const first = scopes.of(callId, soon()).vend(db, vendor('db', released));
    scopes.of(callId, soon()).vend(other, vendor('other', released));
    assert.equal(scopes.of(callId, soon()).vend(db, vendor('again', released)), first);
    assert.notEqual(scopes.of(newId(), soon()).vend(db, vendor('another call', released)), first);
    await scopes.commit(callId);
    assert.deepEqual(released, ['db committed', 'other committed']);
  });

  it('rolls the rest back after a commit that failed, and rejects with its failure', async () => {
    const callId = newId();
    const scope = scopes.of(callId, soon());
    scope.vend({}, vendor('one', released));
    scope.vend({}, vendor('two', released, new Error('deferred')));
    scope.vend({}, vendor('three', released));
    await assert.rejects(scopes.commit(callId), /deferred/);
    assert.deepEqual(released, ['one committed', 'two committed', 'three rolled back']);
  });

  it('rolls back a call that is answered without a commit, and does nothing after one', async () => {
    const [failed, kept] = [newId(), newId()];
    scopes.of(failed, soon()).vend({}, vendor('failed', released));
    scopes.of(kept, soon()).vend({}, vendor('kept', released));
    await scopes.commit(kept);
    scopes.answered(answerOf(kept));
    scopes.answered(answerOf(failed));
    assert.deepEqual(released, ['kept committed', 'failed rolled back']);
  });

  it('begins nothing anew in a call that was cancelled, and does not commit it', async () => {
    const callId = newId();
    const scope = scopes.of(callId, soon());
    scope.vend({}, vendor('db', released));
    scopes.cancelled(parseId(callId) ?? assert.fail());
    assert.ok(scope.signal.aborted);
    assert.throws(() => scopes.of(callId, soon()).vend({}, vendor('anew', released)), { code: 'TIMEOUT' });
    await assert.rejects(scopes.commit(callId), { code: 'TIMEOUT' });
    assert.deepEqual(released, ['db rolled back']);
  });

  it('rolls back at the deadline by itself', async () => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const release = (success: boolean): Promise<void> => Promise.resolve(resolve(success));
    scopes.of(newId(), Date.now() + 5).vend({}, () => ({ release }));
    assert.equal(await promise, false);
  });

  it('rolls back everything of a worker that is gone', () => {
    for (const name of ['one', 'two']) scopes.of(newId(), soon()).vend({}, vendor(name, released));
    scopes.close();
    assert.deepEqual(released, ['one rolled back', 'two rolled back']);
  });

  it('commits a call that took nothing', async () => {
    await scopes.commit(newId());
  });

  it('refuses more calls than a worker can hold', () => {
    for (let count = 0; count < 10_000; count++) scopes.of(newId(), soon());
    assert.throws(() => scopes.of(newId(), soon()), { code: 'SERVICE_BUSY' });
  });

  it('gives a wait for a connection less time than the call has, and 10 s at most', () => {
    const wait = waitMsOf(Date.now() + 1_000);
    assert.ok(wait > 700 && wait <= 800, String(wait));
    assert.deepEqual([waitMsOf(undefined), waitMsOf(Date.now() + 1e9), waitMsOf(Date.now() - 5)], [10_000, 10_000, 1]);
  });
});
