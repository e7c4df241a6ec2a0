import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packBundle } from '../../core/bundle/pack.ts';
import { delay } from '../../core/lifecycle.ts';
import { openCluster } from '../cluster.ts';
import { BODY } from '../bodies.ts';
import { median, temporaryFolder } from '../processes.ts';

/**
 * Milliseconds from the first byte of the upload of a digest the cluster never saw until the first 200 through a
 * frontend polled every 5 ms; RabbitMQ, two runners. Median and slowest of `count` deploys.
 */
export async function measureDeploy(count: number): Promise<{ medianMs: number; slowestMs: number }> {
  const archives = await packMany(count);
  const cluster = await openCluster(2);
  try {
    const samples: number[] = [];
    for (const [index, archive] of archives.entries()) {
      const url = `${cluster.role('frontend-1').url}/b${index}/hello/ann`;
      const began = performance.now();
      const deployed = cluster.deploy(archive);
      while (!(await isOk(url))) await delay(5);
      samples.push(performance.now() - began);
      await deployed;
    }
    return { medianMs: median(samples), slowestMs: Math.max(...samples) };
  } finally {
    await cluster.close();
  }
}

async function isOk(url: string): Promise<boolean> {
  const response = await fetch(url, { method: 'POST', body: BODY, headers: { 'content-type': 'application/json' } });
  await response.arrayBuffer();
  return response.status === 200;
}

/** The bench bundle under `count` names and base paths. */
async function packMany(count: number): Promise<readonly Buffer[]> {
  const folder = await temporaryFolder();
  try {
    await cp(join(import.meta.dirname, '../bundle'), folder.path, { recursive: true });
    const document = join(folder.path, 'funcatron.yaml');
    const text = await readFile(document, 'utf8');
    const archives: Buffer[] = [];
    for (let index = 0; index < count; index++) {
      await writeFile(
        document,
        text
          .replace('name: bench,', `name: bench-${index},`)
          .replace('paths:', `servers: [{ url: /b${index} }]\npaths:`),
      );
      archives.push((await packBundle(folder.path)).archive);
    }
    return archives;
  } finally {
    await folder.remove();
  }
}
