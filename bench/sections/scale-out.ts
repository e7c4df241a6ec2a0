import { measureScaleOut } from '../measures/scale-out.ts';
import type { Section } from '../page.ts';

export const scaleOut: Section = async ({ say, table, must }, isQuick) => {
  const rows = await measureScaleOut([1, 4], isQuick ? 2 : 5, isQuick ? 2 : 5);
  say();
  say('## More frontends and runners on the same cores');
  table(
    ['frontends + runners', 'calls/s', 'p99 ms', 'errors', 'CPU µs per call, RabbitMQ excluded', 'calls by runner, %'],
    rows.map(({ roles, load, cpuUsPerCall, shares }) => [
      `${roles} + ${roles}`,
      load.callsPerS,
      load.p99Ms,
      load.errors,
      cpuUsPerCall,
      shares.map((share) => (share * 100).toFixed(0)).join(', '),
    ]),
  );
  const [one, four] = rows;
  if (one === undefined || four === undefined) return;
  const load = '4 frontends + 4 runners';
  const ratio = four.load.callsPerS / one.load.callsPerS;
  const cpu = four.cpuUsPerCall / one.cpuUsPerCall;
  const most = Math.max(...four.shares);
  must({ load, must: '≥ 0.8× of 1 + 1', found: `${ratio.toFixed(2)}×`, isMet: ratio >= 0.8 });
  must({ load, must: 'CPU per call ≤ 1.3×', found: `${cpu.toFixed(2)}×`, isMet: cpu <= 1.3 });
  must({ load, must: 'no runner > 40 %', found: `${(most * 100).toFixed(0)} %`, isMet: most <= 0.4 });
};
