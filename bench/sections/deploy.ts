import { measureDeploy } from '../measures/deploy.ts';
import type { Section } from '../page.ts';

export const deploy: Section = async ({ say, must }, isQuick) => {
  const { medianMs, slowestMs } = await measureDeploy(isQuick ? 10 : 20);
  say();
  say('## Deploy');
  say();
  say(
    `Over RabbitMQ with 2 runners, first byte of the upload to the first 200: **${medianMs.toFixed(0)} ms** median, ${slowestMs.toFixed(0)} ms slowest`,
  );
  must({ load: 'deploy, 2 runners', must: '≤ 500 ms', found: `${medianMs.toFixed(0)} ms`, isMet: medianMs <= 500 });
};
