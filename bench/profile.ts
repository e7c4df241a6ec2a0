import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { packBundle } from '../core/bundle/pack.ts';
import { benchArchive, openCluster } from './cluster.ts';
import { load } from './load.ts';
import { pass } from './measures/direct.ts';
import { root } from './processes.ts';
import { profileStream, profileWorker } from './profile-worker.ts';

const FOLDER = join(root, 'bench/profiles');
const CONNECTIONS = 64;
const SECONDS = 10;
const BYTES = 2 ** 30;

/**
 * Writes CPU profiles of a frontend and a runner under 64 connections, and of a worker that is given batches, and the
 * same of a long body that passes through them (`direct-…`), into bench/profiles; how to read them is in
 * bench/README.md. Settles with their paths.
 */
export async function writeProfiles(): Promise<readonly string[]> {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  await profileRoles('', await benchArchive(), async (url) => {
    await load({ url: `${url}/hello/ann`, connections: CONNECTIONS, seconds: SECONDS });
  });
  await profileWorker(FOLDER, SECONDS);
  const { archive } = await packBundle(join(root, 'bench/direct/js'));
  await profileRoles('direct-', archive, async (url) => void (await pass(`${url}/js/pass`, BYTES)));
  await profileStream(FOLDER, BYTES);
  return readdirSync(FOLDER).map((name) => join(FOLDER, name));
}

async function profileRoles(prefix: string, archive: Buffer, work: (url: string) => Promise<void>): Promise<void> {
  const cluster = await openCluster(0, 0);
  try {
    for (const role of ['frontend', 'runner']) {
      const file = `${prefix}${role}.cpuprofile`;
      const env = { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${FOLDER} --cpu-prof-name=${file}` };
      await cluster.start(`${role}-1`, { env });
    }
    await cluster.deploy(archive);
    await work(cluster.role('frontend-1').url);
    // A profile is written when its process ends by itself.
    for (const role of ['frontend', 'runner']) await cluster.role(`${role}-1`).end('SIGTERM');
  } finally {
    await cluster.close();
  }
}
