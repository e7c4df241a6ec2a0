import assert from 'node:assert/strict';
import type { IsolateKind } from '../../../runner/isolate/isolate.ts';
import { openProcessIsolate, WorkerStarter } from '../../contract/isolate-harness.ts';
import { until } from '../../helpers/until.ts';

describe('runner/isolate/host/compile', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = openProcessIsolate();
  });
  afterEach(() => workers.endAll());
  after(async () => await kind.close?.());

  const source = `let n = 0; const add = (x) => x + 1; exports.run = (event) => [n = add(n), event.body]`;

  it('hands out a code cache that the next worker of the bundle takes, and then hands out none', async () => {
    const first = await workers.start(source);
    assert.deepEqual((await first.call({ body: '1' })).json(), [1, 1]);
    await until('the code cache comes', () => first.codeCaches.length === 1);
    const [codeCache = Buffer.alloc(0)] = first.codeCaches;
    const other = await workers.start(`${source}\n`);
    const second = await workers.start(source, { codeCache });
    assert.deepEqual((await second.call({ body: '2' })).json(), [1, 2]);
    await until('the code cache of a later start comes', () => other.codeCaches.length === 1);
    await second.worker.ping();
    assert.deepEqual([first.codeCaches.length, second.codeCaches.length], [1, 0]);
  });

  it('runs a bundle whose code cache V8 refuses, and makes another', async () => {
    const worker = await workers.start(source, { codeCache: Buffer.from('made by something else') });
    assert.deepEqual((await worker.call({ body: '1' })).json(), [1, 1]);
    await until('the code cache comes', () => worker.codeCaches.length === 1);
  });

  it('takes no cache for a proof that a text is one function body', async () => {
    const first = await workers.start(source);
    await until('the code cache comes', () => first.codeCaches.length === 1);
    const [codeCache = Buffer.alloc(0)] = first.codeCaches;
    for (const text of ['}); (function () {', '}) (', '}, globalThis.evil = 1, function () {', '/*']) {
      for (const options of [{}, { codeCache }]) {
        await assert.rejects(workers.start(`exports.run = () => 1; ${text}`, options), /cannot be parsed: SyntaxError/);
      }
    }
  });

  it('runs texts whose ends and beginnings could touch the wrapper', async () => {
    for (const text of [
      '#!/usr/bin/env node\nexports.run = () => 1',
      'exports.run = () => 1 // end',
      'exports.run = () => 1 <!-- end',
    ]) {
      const worker = await workers.start(text);
      assert.equal((await worker.call()).json(), 1, text);
    }
  });

  it('names the position of an error on the first line', async () => {
    const worker = await workers.start('exports.run = () => { throw new Error("x") }');
    await worker.call();
    await until('the line comes', () => worker.logs.length === 1);
    assert.match(JSON.stringify(worker.logs[0]?.fields), /bundle\.js:1:29/);
  });
});
