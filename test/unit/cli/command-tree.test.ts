import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { Option } from 'commander';
import { CONFIG, type ConfigKey, flagOf } from '../../../core/config.ts';
import { completionScript } from '../../../cli/completion.ts';
import { createProgram } from '../../../cli/program.ts';
import { readSettings } from '../../../cli/settings.ts';
import { captureTerminal } from './capture-terminal.ts';

const VERBS =
  'up frontend tron runner init validate pack deploy ls describe rm invoke logs bench versions promote rollback scale doctor completion';
const READING = ['ls', 'describe', 'versions', 'logs', 'validate', 'bench', 'doctor'];

describe('cli/program', () => {
  const program = createProgram(captureTerminal());

  it('has every verb, each with a sentence that says what it does', () => {
    assert.deepEqual(program.commands.map((command) => command.name()).sort(), VERBS.split(' ').sort());
    for (const command of program.commands) assert.match(command.description(), /\.$/, command.name());
  });

  it('has --json on every verb that reads', () => {
    for (const name of READING) {
      const command = program.commands.find((one) => one.name() === name);
      assert.ok(
        command?.options.some((option) => option.long === '--json'),
        name,
      );
    }
  });

  it('gives the serving verbs a flag for every setting, and takes its value', () => {
    for (const name of ['up', 'frontend', 'tron', 'runner']) {
      const command = program.commands.find((one) => one.name() === name);
      assert.ok(command !== undefined);
      for (const key of Object.keys(CONFIG) as ConfigKey[]) {
        if (key === 'tronUrl') continue;
        const flag = flagOf(key);
        const option: Option | undefined = command.options.find(({ long }) => long === flag);
        assert.ok(option !== undefined, `${name} ${flag}`);
        const isSwitch = typeof CONFIG[key].default === 'boolean';
        assert.equal(option.required, !isSwitch, flag);
      }
    }
  });

  it('hands a flag that begins with --no- on as what it is', async () => {
    const program = createProgram(captureTerminal());
    const command = program.commands.find((one) => one.name() === 'frontend');
    let noRunnerMs: number | undefined;
    command?.action((options: Record<string, unknown>) => {
      noRunnerMs = readSettings(options).noRunnerMs;
    });
    await program.parseAsync(['frontend', '--no-runner-ms', '7'], { from: 'user' });
    assert.equal(noRunnerMs, 7);
  });
});

describe('cli/completion', () => {
  const program = createProgram(captureTerminal());

  /** What bash offers after these words. */
  function complete(...words: readonly string[]): string[] {
    const script = `${completionScript(program, 'bash')}
      COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
      _funcatron; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8' });
    assert.equal(stderr, '');
    return stdout.trim().split('\n');
  }

  it('completes verbs and their flags in bash', () => {
    assert.deepEqual(complete('funcatron', 'de'), ['deploy', 'describe']);
    assert.deepEqual(complete('funcatron', 'logs', '--fo'), ['--follow']);
    assert.deepEqual(complete('funcatron', 'ls', '--js'), ['--json']);
  });

  it('describes every verb to zsh and fish, in quotes that close', () => {
    for (const shell of ['zsh', 'fish'] as const) {
      const script = completionScript(program, shell);
      for (const verb of VERBS.split(' ')) assert.match(script, new RegExp(`\\b${verb}\\b`));
      for (const line of script.split('\n').filter((text) => !text.startsWith('#'))) {
        assert.equal((line.match(/'/g) ?? []).length % 2, 0, line);
      }
    }
  });
});
