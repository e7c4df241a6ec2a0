import assert from 'node:assert/strict';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { formatReport, reportOf } from '../../../cli/bench-report.ts';
import { Latencies } from '../../../cli/latencies.ts';
import { Load, type LoadOptions, readServerTiming } from '../../../cli/load.ts';
import { until } from '../../helpers/until.ts';

describe('cli/latencies', () => {
  it('gives any share of any times, at most one percent too long', () => {
    const anyMs = fc.double({ min: 0, max: 10_000_000, noNaN: true });
    fc.assert(
      fc.property(fc.array(anyMs, { minLength: 1 }), fc.double({ min: 0, max: 1, noNaN: true }), (all, share) => {
        const times = new Latencies();
        for (const ms of all) times.add(ms);
        const exact = all.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(share * all.length) - 1)] ?? 0;
        const given = times.at(share);
        assert.ok(given >= exact * 0.999999 && given <= exact * 1.010001 + 0.001, `${given} for ${exact}`);
        assert.equal(times.between(-1, times.mostMs), all.length);
      }),
    );
  });

  it('gives 0 of none', () => {
    const times = new Latencies();
    assert.deepEqual([times.at(0.5), times.leastMs, times.meanMs, times.mostMs], [0, 0, 0, 0]);
  });
});

describe('cli/load', () => {
  let server: Server;
  let url: URL;

  async function serve(listener: RequestListener): Promise<void> {
    server = createServer(listener);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x?y=1`);
  }
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  function optionsOf(options: Partial<LoadOptions> = {}): LoadOptions {
    const { signal } = new AbortController();
    return {
      url,
      method: 'GET',
      headers: {},
      body: undefined,
      connections: 2,
      seconds: 0.2,
      rate: undefined,
      signal,
      ...options,
    };
  }

  async function run(options: Partial<LoadOptions> = {}): Promise<Load> {
    const load = new Load(optionsOf(options));
    await load.run();
    return load;
  }

  it('keeps as many calls under way as there are connections, and counts what they say', async () => {
    let inFlight = 0;
    let most = 0;
    let count = 0;
    await serve((_req, res) => {
      most = Math.max(most, ++inFlight);
      res.statusCode = ++count % 2 === 0 ? 200 : 503;
      res.setHeader('server-timing', 'frontend;dur=1.5, func;dur=2');
      setTimeout(() => {
        inFlight--;
        res.end('body');
      }, 2);
    });
    const load = await run({ connections: 5 });
    assert.equal(most, 5);
    assert.ok(load.answers > 10);
    assert.deepEqual(
      [...load.statuses.keys()].toSorted((a, b) => a - b),
      [200, 503],
    );
    assert.equal(load.bytes, load.answers * 4);
    assert.deepEqual([...load.parts.keys()], ['frontend', 'func']);
    assert.equal(load.parts.get('func')?.count, load.answers);
    assert.deepEqual([load.errors.size, load.unfinished, load.unsent], [0, 0, 0]);
  });

  it('sends method, path, headers and body', async () => {
    const seen: unknown[] = [];
    await serve((req, res) => {
      const chunks: Buffer[] = [];
      req.on('data', (chunk: Buffer) => chunks.push(chunk));
      req.on('end', () => {
        seen.push([req.method, req.url, req.headers['x-a'], Buffer.concat(chunks).toString()]);
        res.end();
      });
    });
    await run({ method: 'PUT', headers: { 'x-a': 'b' }, body: Buffer.from('{}') });
    assert.deepEqual(seen[0], ['PUT', '/x?y=1', 'b', '{}']);
  });

  it('counts the time of a call that waits for a connection from when it was due', async () => {
    await serve((_req, res) => void setTimeout(() => res.end(), 20));
    const load = await run({ connections: 1, rate: 200, seconds: 0.5 });
    assert.ok(load.answers <= 27, `${load.answers} answers`);
    assert.ok(load.latencies.mostMs > 200, `${load.latencies.mostMs} ms`);
    assert.ok(load.unsent > 50, `${load.unsent} unsent`);
  });

  it('sends at its rate when the server is faster', async () => {
    await serve((_req, res) => res.end());
    const load = await run({ connections: 10, rate: 100, seconds: 0.5 });
    assert.ok(load.answers >= 48 && load.answers <= 51, `${load.answers} answers`);
  });

  it('counts broken connections by what broke them, and goes on', async () => {
    let count = 0;
    await serve((req, res) => {
      if (++count % 3 === 0) req.socket.destroy();
      else res.end();
    });
    const load = await run({ seconds: 0.5 });
    assert.ok((load.errors.get('ECONNRESET') ?? 0) >= 2);
    assert.ok(load.answers > 2);
    assert.equal(load.isUnreachable, false);
  });

  it('ends early when nobody is there', async () => {
    await serve(() => undefined);
    await new Promise((resolve) => server.close(resolve));
    const load = await run({ seconds: 60 });
    assert.equal(load.isUnreachable, true);
    assert.deepEqual([...load.errors.keys()], ['ECONNREFUSED']);
  });

  it('ends at once when it is told to, with what it has', async () => {
    let requests = 0;
    await serve((_req, res) => {
      if (++requests < 5) res.end();
    });
    const stop = new AbortController();
    const load = new Load(optionsOf({ seconds: 60, signal: stop.signal }));
    const ended = load.run();
    await until('some calls hang', () => requests === 6);
    stop.abort();
    await ended;
    assert.deepEqual([load.answers, load.unfinished], [4, 2]);
  });

  it('shows it to people and to programs', async () => {
    await serve((_req, res) => {
      res.setHeader('server-timing', 'frontend;dur=0.1, queue;dur=2, func;dur=0.5');
      setTimeout(() => res.end('x'), 3);
    });
    const options = optionsOf({ rate: 100 });
    const load = new Load(options);
    await load.run();
    const text = formatReport(load, options);
    const seconds = Math.round(load.elapsedMs) / 1000;
    assert.ok(text.startsWith(`GET ${url.href}\n2 connections, 100 calls a second, ${seconds} s\n`), text);
    assert.match(text, /\n {2}200 +\d+\n/);
    assert.match(text, /\nlatency {3}p50 [\d.]+ ms .* p99\.9 [\d.]+ ms {2}max [\d.]+ ms\n/);
    assert.match(text, /\n {2}≤ +[\d.]+ ms {2}[█▉▊▋▌▍▎▏]+ +\d+\n/);
    assert.match(
      text,
      /\nSERVER-TIMING +MEDIAN +P99\nfrontend +0\.10 ms +0\.10 ms +██\nqueue +2\.0\d ms +2\.00 ms +█{40}\n/,
    );
    const report = JSON.parse(JSON.stringify(reportOf(load, options))) as Record<string, Record<string, unknown>>;
    assert.equal(report['latencyMs']?.['max'], Math.round(load.latencies.mostMs * 1000) / 1000);
    assert.deepEqual(report['statuses'], { 200: load.answers });
    assert.deepEqual(Object.keys(report['serverTimingMs'] ?? {}), ['frontend', 'queue', 'func']);
  });
});

describe('cli/load readServerTiming', () => {
  it('reads names and durations, and leaves out what has none', () => {
    assert.deepEqual(readServerTiming('a;dur=1.5, b;desc="x";dur=2,c, d;DUR="3", e;dur=x'), [
      ['a', 1.5],
      ['b', 2],
      ['d', 3],
    ]);
    assert.deepEqual(readServerTiming(undefined), []);
  });

  it('never throws, whatever a server says', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const [name, ms] of readServerTiming(text)) assert.ok(name.length > 0 && Number.isFinite(ms));
      }),
    );
  });
});
