import { type FeatureRow, measureFeatures } from '../measures/features.ts';
import type { Section } from '../page.ts';

export const features: Section = async ({ say, table }, isQuick) => {
  const result = await measureFeatures(isQuick ? { rounds: 2, seconds: 2 } : { rounds: 3, seconds: 3 });
  say();
  say('## What features cost');
  say();
  say(
    '64 connections over RabbitMQ. What cannot be switched off is not: these are other bundles beside the same one, in turns. Of the lines a func logs a worker hands over 1 000 a second.',
  );
  table(['', 'calls/s', 'of the first', 'p50 ms', 'CPU µs per call, RabbitMQ excluded'], rowsOf(result.bundles));
  say(
    'Publisher confirms on both ways, by amqplib alone: one message each, where ours carry batches and so pay less per call.',
  );
  table(['', 'messages/s', 'of the first', 'p50 ms', 'CPU µs per call, RabbitMQ excluded'], rowsOf(result.confirms));
  say(
    `One deadline, set and met in time: ${result.wheelUs.toFixed(2)} µs on the timer wheel, ${result.timerUs.toFixed(2)} µs as a timer of its own. A call has one, in its frontend; its runner and its worker watch the earliest of all of theirs.`,
  );
};

function rowsOf(rows: readonly FeatureRow[]): (string | number)[][] {
  const first = rows[0]?.load.callsPerS ?? Number.NaN;
  return rows.map(({ name, load }) => [name, load.callsPerS, load.callsPerS / first, load.p50Ms, ownCpuUs(load)]);
}

function ownCpuUs({ cpuUs }: FeatureRow['load']): number {
  return Object.entries(cpuUs).reduce((sum, [name, us]) => (name === 'RabbitMQ' ? sum : sum + us), 0);
}
