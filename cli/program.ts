import { Command } from 'commander';
import { VERSION } from '../core/version.ts';
import { registerAuthor } from './author.ts';
import { registerBench } from './bench.ts';
import { registerBundles } from './bundles.ts';
import { registerCompletion } from './completion.ts';
import { registerDoctor } from './doctor.ts';
import { registerInvoke } from './invoke.ts';
import { registerLogs } from './logs.ts';
import { registerRevisions } from './revisions.ts';
import { registerRoles } from './roles.ts';
import type { Terminal } from './terminal.ts';
import { registerUp } from './up.ts';

const EPILOGUE = `
Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 not reachable (tron, broker, store) ·
4 refused (a bad bundle, token, name or request) · 130 interrupted

Start with:  funcatron up          a whole cluster in one process, with sample bundles
             funcatron init hello  a bundle of your own`;

/** The command tree. Verbs import what they need when they run, so that the first line comes fast. */
export function createProgram(terminal: Terminal): Command {
  const program = new Command('funcatron')
    .description('Serverless functions on the message queue a team already runs.')
    .version(VERSION, '-V, --version')
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.say(text.trimEnd()),
    })
    .showHelpAfterError('  → `--help` shows what this verb takes')
    .addHelpText('after', EPILOGUE)
    .helpCommand(false)
    .exitOverride();

  program.commandsGroup('Run a cluster:');
  registerUp(program, terminal);
  registerRoles(program, terminal);
  program.commandsGroup('Write a bundle:');
  registerAuthor(program, terminal);
  program.commandsGroup('Use a cluster:');
  registerBundles(program, terminal);
  registerInvoke(program, terminal);
  registerLogs(program, terminal);
  registerBench(program, terminal);
  registerRevisions(program, terminal);
  program.commandsGroup('Help:');
  registerDoctor(program, terminal);
  registerCompletion(program, terminal);
  return program;
}
