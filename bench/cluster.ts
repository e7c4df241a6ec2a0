import { join } from 'node:path';
import { packBundle } from '../core/bundle/pack.ts';
import { openTestCluster, type TestCluster } from '../test/helpers/cluster.ts';

/** One Tron, one frontend and `runners` runners as processes on compiled code, over a RabbitMQ and a Redis of their own. */
export async function openCluster(runners: number): Promise<TestCluster> {
  return await openTestCluster({ entry: 'dist/cli/main.js', runners, env: { NODE_ENV: 'production' } });
}

/** The packed bench bundle. */
export async function benchArchive(): Promise<Buffer> {
  return (await packBundle(join(import.meta.dirname, 'bundle'))).archive;
}
