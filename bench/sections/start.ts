import { measureStart } from '../measures/start.ts';
import { type Section, verdict } from '../page.ts';

export const start: Section = async ({ say }, isQuick) => {
  const startMs = await measureStart(isQuick ? 3 : 5);
  say();
  say('## Start and deploy');
  say();
  say(
    `\`npm start\`, packages installed, from exec to the first answered call: **${startMs.toFixed(0)} ms** (must be ≤ 3000: ${verdict(startMs <= 3_000)})`,
  );
};
