import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packBundle } from '../../core/bundle/pack.ts';
import type { LogLine } from '../../core/wire/control.ts';
import { openTestCluster, type RoleProcess, type TestCluster } from '../helpers/cluster.ts';
import { startOrSkip } from '../helpers/servers/provider.ts';
import { until } from '../helpers/until.ts';

/** Bundles that call one another over RabbitMQ, on two runners that are processes: `outer` is of use only through `inner`. */

const OUTER = `
  const nap = () => new Promise((resolve) => setTimeout(resolve, 60));
  export const relay = async (event, context) => {
    const { operationId, ...input } = event.body;
    console.log('has ' + input.query?.of);
    try {
      return await context.invoke('inner', operationId, input);
    } catch (error) {
      return { code: error.code, message: error.message };
    }
  };
  export const chain = async (event, context) => {
    const own = { remainingMs: context.remainingMs(), traceparent: event.headers.traceparent };
    await nap();
    if (event.body.left === 0) return [own];
    const { body } = await context.invoke('inner', 'chain', { body: { left: event.body.left - 1 } });
    return [own, ...body];
  };
  export const spin = async (event, context) => (await context.invoke('inner', 'spin', { body: { depth: event.body.depth + 1 } })).body;
`;
const INNER = `
  const nap = () => new Promise((resolve) => setTimeout(resolve, 60));
  const aborted = (signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason.name)));
  export const chain = async (event, context) => {
    const own = { remainingMs: context.remainingMs(), traceparent: event.headers.traceparent };
    await nap();
    if (event.body.left === 0) return [own];
    const { body } = await context.invoke('outer', 'chain', { body: { left: event.body.left - 1 } });
    return [own, ...body];
  };
  export const spin = async (event, context) => {
    await context.services.kv.set('depth', event.body.depth);
    return (await context.invoke('outer', 'spin', { body: { depth: event.body.depth + 1 } })).body;
  };
  export const echo = (event) => ({ body: event.body, trigger: event.trigger });
  export const gone = () => ({ [Symbol.for('funcatron.reply')]: true, status: 410, body: 'gone', headers: { 'x-a': 'b' } });
  export const throws = () => { throw new Error('secret') };
  export const slow = () => new Promise((resolve) => setTimeout(resolve, 400));
  export const hold = async (event, { services: { kv }, signal }) => {
    if (event.attempt > 1) return { attempt: event.attempt };
    console.log('has ' + event.query.of);
    await kv.incr('started ' + event.query.of);
    const reason = await aborted(signal);
    await kv.set('ended ' + event.query.of, reason);
  };
  export const holdOnce = hold;
  export const asked = async (event, { services: { kv } }) => ({
    started: await kv.get('started ' + event.query.of), ended: await kv.get('ended ' + event.query.of), depth: await kv.get('depth'),
  });
`;
/** Waits for itself, in as many slots as there are. */
const SELF = `
  export const again = async (event, context) => {
    await context.invoke(context.bundle, 'again', { body: event.body });
    return 'never';
  };
  export const down = async (event, context) => {
    if (event.body.left === 0) return 'done';
    return (await context.invoke(context.bundle, 'down', { body: { left: event.body.left - 1 } })).body;
  };
`;
const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const OF = { name: 'of', in: 'query', schema: { type: 'string' } };

interface RunnerView {
  readonly id: string;
  readonly pid: number;
  readonly revisions: readonly { readonly bundle: string; readonly state: string; readonly inFlight: number }[];
}
interface Outcome {
  readonly status?: number;
  readonly body?: unknown;
  readonly code?: string;
  readonly message?: string;
}

describe('context.invoke on two runners over RabbitMQ', function () {
  this.timeout(90_000);
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-invoke-'));
  let cluster: TestCluster | undefined;
  let base = '';
  let nextKey = 0;

  before(async function () {
    execFileSync(process.execPath, ['tools/build-inside.mjs']);
    const env = { FUNCATRON_REPORT_MS: '200' };
    cluster = await startOrSkip(this, () => openTestCluster({ runners: 2, env }));
    base = cluster.role('frontend-1').url;
    await deploy('inner', INNER, { services: { kv: { type: 'kv' } } }, [
      ['post', 'chain'],
      ['post', 'spin'],
      ['post', 'echo'],
      ['get', 'gone'],
      ['get', 'throws'],
      ['get', 'slow', { 'x-funcatron': { timeoutMs: 200 } }],
      ['get', 'hold', { parameters: [OF] }],
      ['post', 'holdOnce', { parameters: [OF] }],
      ['get', 'asked', { parameters: [OF] }],
    ]);
    await deploy('outer', OUTER, {}, [
      ['post', 'relay', { 'x-funcatron': { timeoutMs: 20_000 } }],
      ['post', 'chain', { 'x-funcatron': { timeoutMs: 5_000 } }],
      ['post', 'spin'],
    ]);
    const self = [
      ['post', 'again', { 'x-funcatron': { timeoutMs: 20_000 } }],
      ['post', 'down', { 'x-funcatron': { timeoutMs: 20_000 } }],
    ] as const;
    await deploy('narrow', SELF, { concurrency: 1 }, self);
    await deploy('wide', SELF, {}, self);
  });
  after(async () => {
    await cluster?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function deploy(
    name: string,
    code: string,
    settings: object,
    operations: readonly (readonly [string, string, object?])[],
  ): Promise<void> {
    const body = { requestBody: { content: { 'application/json': {} } } };
    const responses = { 200: { description: 'fine' } };
    const paths = operations.map(([method, operationId, more = {}]) => {
      const operation = { operationId, responses, ...(method === 'post' ? body : {}), ...more };
      return [`/${operationId}`, { [method]: operation }];
    });
    const at = join(folder, name);
    mkdirSync(at);
    writeFileSync(join(at, 'index.js'), code);
    writeFileSync(
      join(at, 'funcatron.json'),
      JSON.stringify({
        openapi: '3.1.0',
        info: { title: name, version: '1.0.0' },
        servers: [{ url: `/${name}` }],
        'x-funcatron': { name, entry: 'index.js', workers: { min: 1, max: 1 }, ...settings },
        paths: Object.fromEntries(paths) as object,
      }),
    );
    await cluster?.deploy((await packBundle(at)).archive);
    await untilReady(name);
  }

  async function runners(): Promise<readonly RunnerView[]> {
    const response = await cluster?.tron('/runners');
    const { runners } = ((await response?.json()) ?? { runners: [] }) as { runners: RunnerView[] };
    return runners;
  }

  async function untilReady(bundle: string): Promise<void> {
    await until(
      `both runners hold ${bundle}`,
      async () => {
        const ready = (await runners()).filter(({ revisions }) =>
          revisions.some((held) => held.bundle === bundle && held.state === 'ready'),
        );
        return ready.length === 2;
      },
      30_000,
    );
  }

  async function post(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
    const headers = { 'content-type': 'application/json', traceparent: TRACEPARENT };
    return await fetch(`${base}${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async function relay(operationId: string, input: object = {}, signal?: AbortSignal): Promise<Outcome> {
    return (await (await post('/outer/relay', { operationId, ...input }, signal)).json()) as Outcome;
  }

  async function asked(of: string): Promise<{ started?: number; ended?: string; depth?: number }> {
    return (await (await fetch(`${base}/inner/asked?of=${encodeURIComponent(of)}`)).json()) as { started?: number };
  }

  /** Which runner a func ran on that said so in its log. */
  async function runnerThatHas(bundle: string, of: string): Promise<string> {
    let runner: string | undefined;
    await until(`${bundle} says who has ${of}`, async () => {
      const answer = (await (await cluster?.tron(`/logs?bundle=${bundle}`))?.json()) as
        { lines: LogLine[] } | undefined;
      runner = answer?.lines.find(({ message }) => message === `has ${of}`)?.runner;
      return runner !== undefined;
    });
    return runner ?? '';
  }

  /** A call of `outer` on one runner that waits for a call of `inner` on the other one, which it gives. */
  async function holdElsewhere(operationId: string): Promise<{ outcome: Promise<Outcome>; inner: RoleProcess }> {
    for (;;) {
      const of = `key ${nextKey++}`;
      const client = new AbortController();
      const outcome = relay(operationId, { query: { of } }, client.signal);
      outcome.catch(() => undefined); // Given up below when both calls are on one runner.
      const [outer, inner] = await Promise.all([runnerThatHas('outer', of), runnerThatHas('inner', of)]);
      const pid = (await runners()).find(({ id }) => id === inner)?.pid;
      const role = [...(cluster?.roles.values() ?? [])].find((each) => each.pid === pid);
      if (outer !== inner && role !== undefined) return { outcome, inner: role };
      client.abort();
      // The broker serves the two in turn, of both queues: without one more call of `inner` they would stay in step.
      await asked('');
      await until('both calls have ended', async () =>
        (await runners()).every(({ revisions }) => revisions.every(({ inFlight }) => inFlight === 0)),
      );
    }
  }

  it('hands over what the func answered, whatever its status, and codes where it did not answer', async () => {
    assert.deepEqual(await relay('echo', { body: { n: 1 } }).then(({ status, body }) => ({ status, body })), {
      status: 200,
      body: { body: { n: 1 }, trigger: 'invoke' },
    });
    const { status, body } = await relay('gone');
    assert.deepEqual([status, body], [410, 'gone']);
    const failed = await relay('throws');
    assert.equal(failed.code, 'FUNC_ERROR');
    assert.doesNotMatch(failed.message ?? '', /secret/);
    assert.equal((await relay('slow')).code, 'TIMEOUT');
    assert.equal((await relay('nothing')).code, 'NOT_FOUND');
  });

  it('carries the trace on, and what is left of the deadline', async () => {
    const hops = (await (await post('/outer/chain', { left: 4 })).json()) as {
      remainingMs: number;
      traceparent: string;
    }[];
    assert.equal(hops.length, 5);
    for (const { traceparent } of hops) assert.equal(traceparent, TRACEPARENT);
    const left = hops.map(({ remainingMs }) => remainingMs);
    assert.ok((left[0] ?? 0) <= 5_000);
    // Each one slept for 60 ms; the two runners' clocks are estimated, so not all of them may show.
    for (let hop = 1; hop < left.length; hop++) assert.ok((left[hop] ?? 0) < (left[hop - 1] ?? 0) - 30, String(left));
  });

  it('answers 508 LOOP_DETECTED when they call one another more than ten deep', async () => {
    const response = await post('/outer/spin', { depth: 0 });
    assert.equal(response.status, 508);
    assert.equal(((await response.json()) as { code: string }).code, 'LOOP_DETECTED');
    assert.equal((await asked('')).depth, 9);
  });

  it('aborts the called func when the client of its caller hangs up', async () => {
    const client = new AbortController();
    const call = relay('hold', { query: { of: 'hung up' } }, client.signal);
    await until('it runs', async () => (await asked('hung up')).started === 1);
    client.abort();
    await assert.rejects(call);
    await until('it was aborted', async () => (await asked('hung up')).ended === 'AbortError');
  });

  // Without lent slots these waited for each other until their deadlines: of `wide` a runner holds 8 messages, of `narrow` one.
  for (const bundle of ['narrow', 'wide']) {
    it(`does not hang where funcs wait for their own bundle in every slot (${bundle})`, async () => {
      const outcomes = async (path: string, body: object): Promise<readonly string[]> => {
        const answers = Array.from({ length: 60 }, async () => {
          const response = await post(`/${bundle}/${path}`, body);
          const text = await response.text();
          return `${response.status} ${/"code":"(\w+)"/.exec(text)?.[1] ?? text}`;
        });
        return [...new Set(await Promise.all(answers))];
      };
      assert.deepEqual(await outcomes('down', { left: 5 }), ['200 done']);
      assert.deepEqual(await outcomes('again', {}), ['508 LOOP_DETECTED']);
    });
  }

  describe('when the runner of the called func is killed', () => {
    afterEach(async () => {
      for (const name of ['runner-1', 'runner-2']) {
        if (isGone(cluster?.role(name).pid ?? 0)) await cluster?.start(name);
      }
      for (const bundle of ['inner', 'outer']) await untilReady(bundle);
    });

    it('runs the func again elsewhere where it may, and the caller has its answer', async () => {
      const { outcome, inner } = await holdElsewhere('hold');
      await inner.end('SIGKILL');
      const { status, body } = await outcome;
      assert.deepEqual([status, body], [200, { attempt: 2 }]);
    });

    it('tells the caller RUNNER_LOST where it may not', async () => {
      const { outcome, inner } = await holdElsewhere('holdOnce');
      await inner.end('SIGKILL');
      assert.equal((await outcome).code, 'RUNNER_LOST');
    });
  });
});

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}
