import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { Config } from '../core/config.ts';
import type { Deployed } from './answers.ts';
import { openClient, tokenFile, type TronClient } from './client.ts';
import type { Cluster } from './cluster.ts';
import { printFailure } from './failure.ts';
import { packageRoot, sampleNames } from './installation.ts';
import { SERVER_SETTINGS } from './roles.ts';
import { addSettings, readSettings } from './settings.ts';
import type { Terminal } from './terminal.ts';

/** `funcatron up`: every role in this process. */
export function registerUp(program: Command, terminal: Terminal): void {
  const command = program
    .command('up')
    .description('Run a whole cluster in this process: frontend, tron, runner, and a broker and a store inside.')
    .argument('[folders...]', 'bundles to deploy at start')
    .option('--no-samples', 'do not deploy the sample bundles at first start')
    .addHelpText('after', '\nExample:\n  funcatron up ./my-bundle --http-port 3000');
  addSettings(command, SERVER_SETTINGS);
  command.action((folders: readonly string[], options: Record<string, unknown>) => up(folders, options, terminal));
}

async function up(
  folders: readonly string[],
  options: Readonly<Record<string, unknown>>,
  terminal: Terminal,
): Promise<void> {
  // Somebody reads along: what they are told here is enough, unless they ask for more.
  const config = readSettings(options, terminal.isInteractive ? { logLevel: 'warn' } : {});
  const [{ openCluster }, { serveUntilSignal }] = await Promise.all([import('./cluster.ts'), import('./serve.ts')]);
  const cluster = await openCluster(config);
  // From here on Ctrl-C drains, also while the bundles are being deployed.
  const served = serveUntilSignal(terminal, cluster);
  const deployed = await deployAtStart(config, cluster, folders, options['samples'] !== false, terminal);
  greet(config, cluster, deployed, terminal);
  process.exitCode = await served;
}

/** Deploys the given folders, or the samples into a cluster that has no bundle yet. */
async function deployAtStart(
  config: Config,
  cluster: Cluster,
  folders: readonly string[],
  samples: boolean,
  terminal: Terminal,
): Promise<readonly Deployed[]> {
  const client = await openClient({ ...config, tronUrl: cluster.tronUrl });
  const chosen =
    folders.length > 0 ? folders.map((folder) => resolve(folder)) : samples ? await missingSamples(client) : [];
  if (chosen.length === 0) return [];
  const { deployPath } = await import('./deploy.ts');
  const deployed = await Promise.all(
    chosen.map((folder) =>
      deployPath(client, folder, true, terminal).catch((error: unknown) => {
        // The cluster stays up: once the bundle is mended, `funcatron deploy` is enough.
        printFailure(terminal, error);
        return undefined;
      }),
    ),
  );
  return deployed.filter((one) => one !== undefined);
}

/** Samples go into an empty cluster only: a bundle somebody changed or removed must not come back. */
async function missingSamples(client: TronClient): Promise<readonly string[]> {
  const { bundles } = await client.get<{ bundles: readonly unknown[] }>('/bundles');
  return bundles.length > 0 ? [] : sampleNames.map((name) => join(packageRoot(), 'bundles', name));
}

function greet(config: Config, cluster: Cluster, deployed: readonly Deployed[], terminal: Terminal): void {
  const bold = (text: string): string => terminal.paint('bold', text);
  terminal.out(`funcatron is up`);
  terminal.out(`  HTTP calls       ${bold(cluster.httpUrl)}`);
  terminal.out(`  management API   ${cluster.tronUrl}/v1`);
  terminal.out(`  token            ${config.token === '' ? tokenFile(config.dataDir) : 'the one given'}`);
  for (const { bundle, revision } of deployed) terminal.out(`  deployed         ${bundle} @ ${revision}`);
  terminal.out(`  try              ${bold(`curl ${cluster.httpUrl}${exampleCall(deployed)}`)}`);
  terminal.say(terminal.paint('dim', 'Ctrl-C drains and stops'));
}

/** A path that answers: of the hello sample, else of the first GET without parameters. */
function exampleCall(deployed: readonly Deployed[]): string {
  if (deployed.length === 0 || deployed.some(({ bundle }) => bundle === 'hello')) return '/hello/world';
  const operations = deployed.flatMap((one) => one.operations).filter(({ method }) => method === 'GET');
  const plain = operations.find(({ path }) => !path.includes('{')) ?? operations[0];
  return plain?.path ?? '/_funcatron/health';
}
