import type { Command } from 'commander';
import type { ConfigKey } from '../core/config.ts';
import type { Finding } from './doctor-checks.ts';
import { EXIT } from './failure.ts';
import { addSettings, readSettings } from './settings.ts';
import { type Terminal, withProgress } from './terminal.ts';

/** What the checks look at. */
const SETTINGS = [
  'brokerUrl',
  'storeUrl',
  'dataDir',
  'tronUrl',
  'token',
  'host',
  'httpPort',
  'tronPort',
] as const satisfies readonly ConfigKey[];

const MARKS = { ok: '✔', warning: '!', bad: '✘' } as const;
const STYLES = { ok: 'green', warning: 'yellow', bad: 'red' } as const;

/** `funcatron doctor`: what this machine needs, what is there, and how to mend the rest. */
export function registerDoctor(program: Command, terminal: Terminal): void {
  const command = program
    .command('doctor')
    .description('Check Node, broker, store, tron, clock, ports and isolates, and say how to mend what is wrong.')
    .option('--json', 'print the findings as JSON');
  addSettings(command, SETTINGS);
  command.action(async (options: Readonly<Record<string, unknown>>) => {
    const { checkAll } = await import('./doctor-checks.ts');
    const findings = await withProgress(terminal, 'looking', checkAll(readSettings(options)));
    if (options['json'] === true) terminal.out(JSON.stringify(findings, null, 2));
    else for (const finding of findings) printFinding(finding, terminal);
    if (findings.some(({ state }) => state === 'bad')) process.exitCode = EXIT.failed;
  });
}

function printFinding({ name, state, text, fix }: Finding, terminal: Terminal): void {
  terminal.out(`${terminal.paint(STYLES[state], MARKS[state])} ${name.padEnd(8)} ${text}`);
  if (fix !== undefined) terminal.out(`  ${' '.repeat(8)} → ${fix}`);
}
