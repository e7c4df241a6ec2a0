import { freePort } from '../../test/helpers/servers/port.ts';
import { answers, median, start, temporaryFolder } from '../processes.ts';

/** Milliseconds from the exec of `npm start` (packages installed, empty data folder) until the sample `hello` answered; median. */
export async function measureStart(rounds: number): Promise<number> {
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const folder = await temporaryFolder();
    const port = await freePort();
    const args = [
      'start',
      '--',
      '--http-port',
      String(port),
      '--tron-port',
      '0',
      '--admin-port',
      '0',
      '--data',
      folder.path,
    ];
    const url = `http://127.0.0.1:${port}/hello/ann`;
    const up = await start('npm', args, {}, () => isOk(url));
    samples.push(up.readyAfterMs);
    await up.stop();
    await folder.remove();
  }
  return median(samples);
}

async function isOk(url: string): Promise<boolean> {
  if (!(await answers(url))) return false;
  const response = await fetch(url);
  await response.arrayBuffer();
  return response.status === 200;
}
