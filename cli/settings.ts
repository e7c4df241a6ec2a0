import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { CONFIG, type Config, type ConfigKey, envOf, flagOf, readConfig } from '../core/config.ts';
import { FuncatronError } from '../core/errors.ts';

/** What every verb that talks to the management API needs to find it. */
export const CLIENT_SETTINGS = ['tronUrl', 'token', 'dataDir'] as const satisfies readonly ConfigKey[];

/** Gives a verb the flags of these settings, in the words of the configuration table. */
export function addSettings(command: Command, keys: readonly ConfigKey[]): Command {
  for (const key of keys) command.addOption(optionOf(key));
  return command;
}

/**
 * The configuration: the verb's flags over the environment over `defaults` over the table's.
 * @throws INVALID_CONFIG
 */
export function readSettings(
  options: Readonly<Record<string, unknown>>,
  defaults: Readonly<Partial<Config>> = {},
): Config {
  const flags: Partial<Record<ConfigKey, string | boolean>> = {};
  for (const key of Object.keys(CONFIG) as ConfigKey[]) {
    const value = options[optionOf(key).attributeName()];
    if (typeof value === 'string' || typeof value === 'boolean') flags[key] = value;
  }
  return readConfig(flags, undefined, readSecret, defaults);
}

function optionOf(key: ConfigKey): Option {
  const row: { default: string | number | boolean; unit?: string; oneOf?: readonly string[]; text: string } =
    CONFIG[key];
  const placeholder = typeof row.default === 'boolean' ? '' : ` <${row.unit ?? 'value'}>`;
  const shown = row.default === '' || row.default === false ? '' : `, default ${row.default}`;
  const option = new Option(`${flagOf(key)}${placeholder}`, `${row.text} (${envOf(key)}${shown})`);
  // commander takes every `--no-…` for the opposite of `--…`; `--no-runner-ms` has none.
  option.negate = false;
  return option;
}

function readSecret(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new FuncatronError('INVALID_CONFIG', `cannot read the setting's file ${path}`, {
      cause,
      data: { hint: 'the variable ending in _FILE names a file that this user can read' },
    });
  }
}
