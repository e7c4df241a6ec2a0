import { join } from 'node:path';
import { packBundle } from '../core/bundle/pack.ts';
import { openTestCluster, type TestCluster } from '../test/helpers/cluster.ts';

/**
 * One Tron, `frontends` frontends and `runners` runners as processes on compiled code, over a Redis of their own and a RabbitMQ
 * of their own that runs as it is shipped.
 * @param more of the roles' environment
 */
export async function openCluster(
  runners: number,
  frontends = 1,
  more: Readonly<Record<string, string>> = {},
): Promise<TestCluster> {
  const env = { NODE_ENV: 'production', ...more };
  return await openTestCluster({ entry: 'dist/cli/main.js', runners, frontends, env, rabbitFlags: '' });
}

/** The packed bench bundle. */
export async function benchArchive(): Promise<Buffer> {
  return (await packBundle(join(import.meta.dirname, 'bundle'))).archive;
}
