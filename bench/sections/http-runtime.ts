import { measureHttpRuntime } from '../measures/http-runtime.ts';
import type { Section } from '../page.ts';

export const httpRuntime: Section = async ({ say, must }, isQuick) => {
  const { runtimePerS, pipePerS } = await measureHttpRuntime(isQuick ? 3 : 5, isQuick ? 1 : 2);
  const ratio = runtimePerS / pipePerS;
  say();
  say('## Runtime `http`');
  say();
  say('The loop of `bundles/fn-python`, one worker, one call after the other.');
  say();
  say('| | calls/s |');
  say('|---|--:|');
  say(`| one worker of the runtime | ${runtimePerS.toFixed(0)} |`);
  say(`| a bare pipe loop driving the same program | ${pipePerS.toFixed(0)} |`);
  must({ load: 'runtime `http`', must: '≥ 0.5× a bare pipe', found: `${ratio.toFixed(2)}×`, isMet: ratio >= 0.5 });
};
