import assert from 'node:assert/strict';
import { Histogram } from '../../../core/histogram.ts';
import { createMetrics } from '../../../core/metrics.ts';

describe('core/histogram', () => {
  it('counts a value at the first bound that is not below it, and gives all it has to another one', () => {
    const histogram = new Histogram([1, 5]);
    histogram.observe(1);
    histogram.observe(1.01, 2);
    histogram.observe(6);
    assert.deepEqual(histogram.cumulated(), [1, 3, 4]);
    const all = new Histogram([1, 5]);
    all.observe(0);
    histogram.moveTo(all);
    assert.deepEqual([all.cumulated(), all.sum], [[2, 4, 5], 1 + 2 * 1.01 + 6]);
    assert.deepEqual([histogram.cumulated(), histogram.sum], [[0, 0, 0], 0]);
  });
});

describe('core/metrics', () => {
  it('writes histograms as Prometheus reads them, with whatever stands in their labels', async () => {
    const metrics = createMetrics();
    metrics.counter('c_total', 'counted', []).add([], 2);
    const seconds = metrics.histogram('h_seconds', 'measured', ['a', 'b'], [0.5, 1]);
    seconds.of(['x', 'say "\\\n"']).observe(0.7);
    seconds.of(['x', 'say "\\\n"']).observe(2);
    metrics.histogram('bare', 'without labels', [], [1]).of([]).observe(1);
    assert.equal(
      (await metrics.text()).trim(),
      [
        '# HELP c_total counted',
        '# TYPE c_total counter',
        'c_total 2',
        '',
        '# HELP h_seconds measured',
        '# TYPE h_seconds histogram',
        'h_seconds_bucket{a="x",b="say \\"\\\\\\n\\"",le="0.5"} 0',
        'h_seconds_bucket{a="x",b="say \\"\\\\\\n\\"",le="1"} 1',
        'h_seconds_bucket{a="x",b="say \\"\\\\\\n\\"",le="+Inf"} 2',
        'h_seconds_sum{a="x",b="say \\"\\\\\\n\\""} 2.7',
        'h_seconds_count{a="x",b="say \\"\\\\\\n\\""} 2',
        '',
        '# HELP bare without labels',
        '# TYPE bare histogram',
        'bare_bucket{le="1"} 1',
        'bare_bucket{le="+Inf"} 1',
        'bare_sum 1',
        'bare_count 1',
      ].join('\n'),
    );
  });
});
