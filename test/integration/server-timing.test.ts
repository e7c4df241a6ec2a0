import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readServerTiming } from '../../cli/load.ts';
import { openEmbedded, type EmbeddedCluster } from '../helpers/embedded.ts';

describe('Server-Timing of a real call', () => {
  let cluster: EmbeddedCluster;

  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    await cluster.deploy(join(import.meta.dirname, '../fixtures/bundles/timing'));
  });
  after(() => cluster.close());

  /** The parts by name, and how long the client waited for them. */
  async function timingOf(path: string, init?: RequestInit): Promise<{ parts: Map<string, number>; waitedMs: number }> {
    const startedAt = performance.now();
    const response = await fetch(cluster.httpUrl + path, init);
    const waitedMs = performance.now() - startedAt;
    await response.bytes();
    const parts = new Map(readServerTiming(response.headers.get('server-timing') ?? undefined));
    assert.deepEqual([...parts.keys()], ['frontend', 'queue', 'isolate', 'cold', 'func', 'reply']);
    return { parts, waitedMs };
  }

  function sumOf(parts: ReadonlyMap<string, number>): number {
    let sum = 0;
    for (const [name, ms] of parts) if (name !== 'cold') sum += ms;
    return sum;
  }

  for (const path of ['/timing/slow', '/timing/fails']) {
    it(`adds up to no more than the client waited, with the func’s own time in it: ${path}`, async () => {
      const { parts, waitedMs } = await timingOf(path);
      assert.ok((parts.get('func') ?? 0) >= 50, `${parts.get('func')} ms`);
      assert.ok(sumOf(parts) <= waitedMs + 1, `${sumOf(parts)} of ${waitedMs} ms`);
      assert.equal(parts.get('cold'), 0);
    });
  }

  it('comes before a body that is streamed, and says nothing of that', async () => {
    const { parts, waitedMs } = await timingOf('/timing/drips');
    assert.ok(sumOf(parts) <= waitedMs + 1, `${sumOf(parts)} of ${waitedMs} ms`);
    assert.ok((parts.get('func') ?? Infinity) < 150, `${parts.get('func')} ms`);
  });

  it('counts what a client takes to send its body as the frontend’s, and has all parts where that goes on direct', async () => {
    const pause = new Promise((resolve) => setTimeout(resolve, 80));
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(new Uint8Array(100_000));
        await pause;
        controller.close();
      },
    });
    const init = { method: 'POST', body, duplex: 'half' } as RequestInit;
    const { parts, waitedMs } = await timingOf('/timing/whole', init);
    assert.ok(sumOf(parts) <= waitedMs + 1, `${sumOf(parts)} of ${waitedMs} ms`);
    assert.ok((parts.get('frontend') ?? 0) >= 60, JSON.stringify([...parts]));
  });
});
