import assert from 'node:assert/strict';
import { isAllMet, renderResults, type SectionResult } from '../../../bench/results.ts';
import { planRun } from '../../../bench/sections.ts';

const MET = { load: 'a load', must: '≥ 1', found: '2', isMet: true };
const MISSED = { load: 'another load', must: '≥ 3', found: '2', isMet: false };

function result(more: Partial<SectionResult>): SectionResult {
  return {
    lines: [],
    figures: [],
    beganAt: '2026-11-21T10:00:00.000Z',
    commit: 'abc1234',
    loadBefore: 0.5,
    seconds: 12.3,
    ...more,
  };
}

describe('bench/results', () => {
  const results = {
    cold: result({
      lines: ['', '## Cold start'],
      figures: [MET],
      beganAt: '2026-11-21T09:58:00.000Z',
      loadBefore: 0.1,
    }),
    'hot-path': result({ lines: ['', '## The hot path'], figures: [MISSED], commit: 'def5678' }),
    single: result({ failure: 'not done after 240 s' }),
  };
  const page = renderResults(results, ['hot-path', 'single', 'bundles', 'cold'], '2 × a machine');

  it('says at the head when, of what, on what machine, and how busy that was when the first section began', () => {
    assert.match(
      page,
      /^# Benchmark\n\n2026-11-21 09:58, commit abc1234 and def5678, 2 × a machine\. Load average at the start: 0\.100\.$/m,
    );
  });

  it('has the sections in the order of the page, and the figures of all of them at its end', () => {
    const places = ['## The hot path', '## Cold start', '## When it was measured', '## Figures that must be met'];
    const found = places.map((place) => page.indexOf(place));
    assert.ok(found.every((at) => at > 0));
    assert.deepEqual(
      found,
      found.toSorted((a, b) => a - b),
    );
    const [, figures = ''] = page.split('## Figures that must be met');
    assert.match(figures, /\| a load \| ≥ 1 \| 2 \| met \|/);
    assert.match(figures, /\| another load \| ≥ 3 \| 2 \| \*\*not met\*\* \|/);
  });

  it('says which sections failed and why, and which are missing', () => {
    assert.match(page, /^\*\*`single` failed\*\*: not done after 240 s$/m);
    assert.match(page, /^\| single \| .* \| \*\*failed\*\* \|$/m);
    assert.match(page, /^Without those of single, bundles\.$/m);
  });

  it('says of each section when and at which commit it was measured', () => {
    assert.match(page, /^\| hot-path \| 2026-11-21 10:00 \| def5678 \| 0\.500 \| 12 \|/m);
  });

  it('are met when no section failed and every figure is', () => {
    assert.equal(isAllMet({ cold: results.cold }), true);
    assert.equal(isAllMet({ cold: results.cold, single: results.single }), false);
    assert.equal(isAllMet({ 'hot-path': results['hot-path'] }), false);
  });
});

describe('bench/sections', () => {
  it('run cold starts and the neighbour before everything else', () => {
    assert.deepEqual(planRun([], false).slice(0, 2), ['cold', 'neighbour']);
    assert.deepEqual(planRun(['memory', 'neighbour', 'single'], false), ['neighbour', 'single', 'memory']);
  });

  it('are a few in a quick run that names none', () => {
    assert.deepEqual(planRun([], true), ['hot-path', 'single', 'isolate']);
    assert.deepEqual(planRun(['sse'], true), ['sse']);
  });
});
