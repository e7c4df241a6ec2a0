// Measures one section in a process of its own (`run-section.ts` starts it), so that nothing another section has left
// behind is collected in the middle of it: 500 MB after `isolate`. Hands what came out to its parent.
import { inspect } from 'node:util';
import { createPage, type Figure } from './page.ts';
import type { SectionOutcome } from './run-section.ts';
import { SECTIONS } from './sections.ts';

const [name = '', ...flags] = process.argv.slice(2);
const lines: string[] = [];
const figures: Figure[] = [];
let failure: string | undefined;
// Whoever ends the run ends what runs.
process.once('disconnect', () => process.exit(1));
try {
  const planned = SECTIONS[name];
  if (planned === undefined) throw new Error(`there is no section ${name}`);
  await planned.section(createPage(lines, figures), flags.includes('--quick'));
} catch (error) {
  process.stderr.write(`${name}: ${inspect(error)}\n`);
  failure = error instanceof Error ? error.message : String(error);
}
const outcome: SectionOutcome = { lines, figures, ...(failure === undefined ? {} : { failure }) };
process.send?.(outcome, () => {
  process.removeAllListeners('disconnect');
  process.disconnect?.();
});
