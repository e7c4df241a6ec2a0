import { measureDeploy } from '../measures/deploy.ts';
import { type Section, verdict } from '../page.ts';

export const deploy: Section = async ({ say }, isQuick) => {
  const { medianMs, slowestMs } = await measureDeploy(isQuick ? 10 : 20);
  say();
  say(
    `deploy over RabbitMQ with 2 runners, first byte of the upload to the first 200: **${medianMs.toFixed(0)} ms** median, ${slowestMs.toFixed(0)} ms slowest (must be ≤ 500: ${verdict(medianMs <= 500)})`,
  );
};
