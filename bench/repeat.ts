import { median } from './processes.ts';

/** The median, in ms, of what one takes when it is done again and again for `seconds`, after 500 that do not count. */
export async function repeat(seconds: number, once: () => Promise<void>): Promise<number> {
  const samples: number[] = [];
  for (let warm = 0; warm < 500; warm++) await once();
  const end = performance.now() + seconds * 1_000;
  while (performance.now() < end) {
    const start = performance.now();
    await once();
    samples.push(performance.now() - start);
  }
  return median(samples);
}
