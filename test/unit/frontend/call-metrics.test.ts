import assert from 'node:assert/strict';
import { createMetrics } from '../../../core/metrics.ts';
import { createCallMetrics } from '../../../frontend/call-metrics.ts';
import { Revision } from '../../../frontend/revision.ts';
import { CallTiming } from '../../../frontend/server-timing.ts';
import { testBundle } from '../../helpers/live-bundle.ts';

function revisionWith(count: number): Revision {
  const operations = Array.from({ length: count }, (_, index) => ({
    operationId: `op${index}`,
    method: 'GET',
    path: `/${index}`,
  }));
  const { record, state } = testBundle({ operations });
  return new Revision('orders', state.revisions[0] ?? assert.fail(), record);
}

describe('frontend/call-metrics', () => {
  it('counts calls of two revisions of an operation together', async () => {
    const metrics = createMetrics();
    const calls = createCallMetrics(metrics);
    for (const revision of [revisionWith(1), revisionWith(1)])
      for (const status of [200, 204, 404]) calls.observe(revision.operations[0], status, new CallTiming());
    const text = await metrics.text();
    const labels = 'bundle="orders",operation="op0"';
    assert.match(text, new RegExp(`^funcatron_http_call_seconds_count{${labels},status="2xx"} 4$`, 'm'));
    assert.match(text, new RegExp(`^funcatron_http_call_seconds_count{${labels},status="4xx"} 2$`, 'm'));
    const frontend = `${labels},status="2xx",part="frontend"`;
    assert.match(text, new RegExp(`^funcatron_http_call_part_seconds_count{${frontend}} 4$`, 'm'));
    assert.doesNotMatch(text, /part="(queue|func|unanswered)"/);
  });

  it('keeps series of a thousand operations, and counts the others together', async () => {
    const metrics = createMetrics();
    const calls = createCallMetrics(metrics);
    for (const operation of revisionWith(1_003).operations) calls.observe(operation, 200, new CallTiming());
    const text = await metrics.text();
    assert.equal(text.match(/^funcatron_http_call_seconds_count/gm)?.length, 1_001);
    assert.match(text, /^funcatron_http_call_seconds_count{bundle="other",operation="other",status="2xx"} 3$/m);
  });
});
