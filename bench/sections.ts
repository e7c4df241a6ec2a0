import type { Section } from './page.ts';
import { bundles } from './sections/bundles.ts';
import { coldStart } from './sections/cold-start.ts';
import { deploy } from './sections/deploy.ts';
import { direct } from './sections/direct.ts';
import { features } from './sections/features.ts';
import { hotPath } from './sections/hot-path.ts';
import { httpRuntime } from './sections/http-runtime.ts';
import { isolate } from './sections/isolate.ts';
import { memory } from './sections/memory.ts';
import { neighbour } from './sections/neighbour.ts';
import { scaleOut } from './sections/scale-out.ts';
import { single } from './sections/single.ts';
import { sse } from './sections/sse.ts';
import { start } from './sections/start.ts';

export interface PlannedSection {
  readonly section: Section;
  /** Seconds after which it is ended and counts as failed: about twice what it takes on two idle cores. */
  readonly limitS: number;
}

/** By name, in the order of the page. */
export const SECTIONS: Readonly<Record<string, PlannedSection>> = {
  'hot-path': { section: hotPath, limitS: 900 },
  single: { section: single, limitS: 200 },
  bundles: { section: bundles, limitS: 480 },
  'scale-out': { section: scaleOut, limitS: 240 },
  features: { section: features, limitS: 240 },
  direct: { section: direct, limitS: 300 },
  sse: { section: sse, limitS: 240 },
  'http-runtime': { section: httpRuntime, limitS: 90 },
  start: { section: start, limitS: 60 },
  deploy: { section: deploy, limitS: 60 },
  neighbour: { section: neighbour, limitS: 240 },
  isolate: { section: isolate, limitS: 300 },
  cold: { section: coldStart, limitS: 200 },
  memory: { section: memory, limitS: 480 },
};

/** What a quick run measures, with shorter loads and fewer peers. */
const QUICK: readonly string[] = ['hot-path', 'single', 'isolate'];
/** Their figures are of milliseconds: they have the machine before the others have warmed it up. */
const FIRST: readonly string[] = ['cold', 'neighbour'];

/** The sections a run is made of, in the order they run: those named, or all of them, or those of a quick run. */
export function planRun(named: readonly string[], isQuick: boolean): readonly string[] {
  const all = Object.keys(SECTIONS);
  const wanted = named.length > 0 ? named : isQuick ? QUICK : all;
  return [...FIRST, ...all.filter((name) => !FIRST.includes(name))].filter((name) => wanted.includes(name));
}
