import { measureSingle } from '../measures/single.ts';
import { type Section, verdict } from '../page.ts';

export const single: Section = async ({ say }, isQuick) => {
  const result = await measureSingle(isQuick ? 3 : 5, isQuick ? 2 : 4);
  const parts = result.httpMs + result.amqpMs + result.isolateMs;
  const ratio = result.funcatronMs / parts;
  say();
  say('## One connection');
  say();
  say('| | p50 ms |');
  say('|---|--:|');
  say(`| bare node:http | ${result.httpMs.toFixed(3)} |`);
  say(`| amqplib request/reply over the same RabbitMQ | ${result.amqpMs.toFixed(3)} |`);
  say(`| one round trip through the process isolate | ${result.isolateMs.toFixed(3)} |`);
  say(`| sum of these parts | ${parts.toFixed(3)} |`);
  say(`| funcatron over RabbitMQ | ${result.funcatronMs.toFixed(3)} |`);
  say();
  say(`funcatron / sum of its parts: **${ratio.toFixed(2)}** (must be ≤ 1.4: ${verdict(ratio <= 1.4)})`);
};
