import type { Command } from 'commander';
import { CONFIG, type ConfigKey } from '../core/config.ts';
import type { Role } from './cluster.ts';
import { prepareWorkers } from './installation.ts';
import { addSettings, readSettings } from './settings.ts';
import type { Terminal } from './terminal.ts';

const ROLES: Readonly<Record<Role, string>> = {
  frontend: 'take HTTP calls and put them on the queue',
  tron: 'keep bundles, decide which runner holds which, serve the management API',
  runner: 'take calls off the queue and run their funcs',
};

/** What a process that serves can be told: everything but where the command line finds tron. */
export const SERVER_SETTINGS = (Object.keys(CONFIG) as ConfigKey[]).filter((key) => key !== 'tronUrl');

/** `funcatron frontend | tron | runner`: one role, on RabbitMQ and Redis. */
export function registerRoles(program: Command, terminal: Terminal): void {
  for (const role of Object.keys(ROLES) as Role[]) {
    const command = program.command(role).description(`Run a ${role}: ${ROLES[role]}.`);
    addSettings(command, SERVER_SETTINGS);
    command.action((options: Record<string, unknown>) => runRole(role, options, terminal));
  }
}

async function runRole(role: Role, options: Readonly<Record<string, unknown>>, terminal: Terminal): Promise<void> {
  const config = readSettings(options);
  if (role === 'runner') await prepareWorkers(terminal);
  const [{ openRole }, { serveUntilSignal }] = await Promise.all([import('./cluster.ts'), import('./serve.ts')]);
  const opened = await openRole(role, config);
  if (opened.url !== undefined) terminal.out(opened.url);
  process.exitCode = await serveUntilSignal(terminal, opened);
}
