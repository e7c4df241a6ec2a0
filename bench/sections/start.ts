import { measureStart } from '../measures/start.ts';
import type { Section } from '../page.ts';

export const start: Section = async ({ say, must }, isQuick) => {
  const startMs = await measureStart(isQuick ? 3 : 5);
  say();
  say('## Start');
  say();
  say(`\`npm start\`, packages installed, from exec to the first answered call: **${startMs.toFixed(0)} ms**`);
  must({
    load: '`npm start` to the first call',
    must: '≤ 3000 ms',
    found: `${startMs.toFixed(0)} ms`,
    isMet: startMs <= 3_000,
  });
};
