import { measureSingle } from '../measures/single.ts';
import { type Section } from '../page.ts';

export const single: Section = async ({ say, must }, isQuick) => {
  const result = await measureSingle(isQuick ? 2 : 5, isQuick ? 1 : 3);
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
  must({
    load: '1 connection, RabbitMQ',
    must: 'p50 ≤ 1.15× the sum of its parts',
    found: `${ratio.toFixed(2)}×`,
    isMet: ratio <= 1.15,
  });
};
