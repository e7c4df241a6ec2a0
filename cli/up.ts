import { join } from 'node:path';
import type { Command } from 'commander';
import { CONFIG, type Config } from '../core/config.ts';
import type { Routes } from './answers.ts';
import { openClient, tokenFile, type TronClient } from './client.ts';
import type { Cluster } from './cluster.ts';
import { printFailure } from './failure.ts';
import { packageRoot, prepareWorkers, sampleNames } from './installation.ts';
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
  const quiet: Partial<Config> = terminal.isInteractive ? { logLevel: 'warn' } : {};
  const given = readSettings(options, quiet);
  // Whoever can reach it has a shell on this machine anyway: there it may run programs without being asked.
  const config = isLoopback(given.host)
    ? readSettings(options, { ...quiet, runtimes: CONFIG.runtimes.someOf.join(',') })
    : given;
  await prepareWorkers(terminal);
  const [{ openCluster }, { serveUntilSignal }] = await Promise.all([import('./cluster.ts'), import('./serve.ts')]);
  const cluster = await openCluster(config);
  let isStopping = false;
  // From here on Ctrl-C drains, also while bundles are being deployed.
  const served = serveUntilSignal(terminal, {
    close() {
      isStopping = true;
      return cluster.close();
    },
  });
  try {
    const client = await openClient({ ...config, tronUrl: cluster.tronUrl });
    const chosen = folders.length > 0 || options['samples'] === false ? folders : await missingSamples(client);
    await deployAll(client, chosen, terminal, () => isStopping);
    const { routes } = await client.get<Routes>('/routes');
    if (!isStopping) greet(config, cluster, routes, terminal);
  } catch (error) {
    // The cluster stays up: what failed can be done again with `funcatron deploy`.
    if (!isStopping) printFailure(terminal, error);
  }
  process.exitCode = await served;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d+){3}$/.test(host);
}

/** The first one alone, so that it answers soon, then the others side by side; one that fails hinders no other. */
async function deployAll(
  client: TronClient,
  folders: readonly string[],
  terminal: Terminal,
  isStopping: () => boolean,
): Promise<void> {
  if (folders.length === 0) return;
  const { deployPath } = await import('./deploy.ts');
  const deploy = async (folder: string): Promise<void> => {
    try {
      const { bundle, revision } = await deployPath(client, folder, true, terminal);
      terminal.say(`deployed ${bundle} @ ${revision}`);
    } catch (error) {
      if (!isStopping()) printFailure(terminal, error);
    }
  };
  const [first = '', ...others] = folders;
  await deploy(first);
  await Promise.all(others.map(deploy));
  const { endPacking } = await import('../core/bundle/pack-code.ts');
  await endPacking();
}

/** Samples go into an empty cluster only: a bundle somebody changed or removed must not come back. */
async function missingSamples(client: TronClient): Promise<readonly string[]> {
  const { bundles } = await client.get<{ bundles: readonly unknown[] }>('/bundles');
  return bundles.length > 0 ? [] : sampleNames.map((name) => join(packageRoot(), 'bundles', name));
}

function greet(config: Config, cluster: Cluster, routes: Routes['routes'], terminal: Terminal): void {
  const bold = (text: string): string => terminal.paint('bold', text);
  terminal.out('funcatron is up');
  terminal.out(`  HTTP calls      ${bold(cluster.httpUrl)}`);
  terminal.out(`  management API  ${cluster.tronUrl}/v1`);
  terminal.out(`  token           ${config.token === '' ? tokenFile(config.dataDir) : 'the one given'}`);
  const path = examplePath(routes);
  if (path === undefined) terminal.out('  no bundles yet: funcatron init my-bundle && funcatron deploy my-bundle');
  else terminal.out(`  try             ${bold(`curl ${cluster.httpUrl}${path}`)}`);
  terminal.say(terminal.paint('dim', 'Ctrl-C drains and stops'));
}

/** A path that answers a plain GET, or `undefined`. */
function examplePath(routes: Routes['routes']): string | undefined {
  if (routes.some(({ bundle, operationId }) => bundle === 'hello' && operationId === 'greet')) return '/hello/world';
  const gets = routes.filter(({ method }) => method === 'GET').map(({ path }) => path);
  return gets.find((path) => !path.includes('{')) ?? gets[0];
}
