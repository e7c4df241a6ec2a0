import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { benchArchive, openCluster } from './cluster.ts';
import { load } from './load.ts';
import { root } from './processes.ts';
import { profileWorker } from './profile-worker.ts';

const FOLDER = join(root, 'bench/profiles');
const CONNECTIONS = 64;
const SECONDS = 10;

/**
 * Writes CPU profiles of a frontend and a runner under 64 connections, and of a worker that is given batches, into
 * bench/profiles; how to read them is in bench/README.md. Settles with their paths.
 */
export async function writeProfiles(): Promise<readonly string[]> {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const cluster = await openCluster(0, 0);
  try {
    for (const role of ['frontend', 'runner']) {
      const env = { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${FOLDER} --cpu-prof-name=${role}.cpuprofile` };
      await cluster.start(`${role}-1`, { env });
    }
    await cluster.deploy(await benchArchive());
    const url = `${cluster.role('frontend-1').url}/hello/ann`;
    await load({ url, connections: CONNECTIONS, seconds: SECONDS });
    // A profile is written when its process ends by itself.
    for (const role of ['frontend', 'runner']) await cluster.role(`${role}-1`).end('SIGTERM');
  } finally {
    await cluster.close();
  }
  await profileWorker(FOLDER, SECONDS);
  return readdirSync(FOLDER).map((name) => join(FOLDER, name));
}
