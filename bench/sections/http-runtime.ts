import { measureHttpRuntime } from '../measures/http-runtime.ts';
import { type Section, verdict } from '../page.ts';

export const httpRuntime: Section = async ({ say }, isQuick) => {
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
  say();
  say(`runtime / bare loop: **${ratio.toFixed(2)}** (must be ≥ 0.5: ${verdict(ratio >= 0.5)})`);
};
