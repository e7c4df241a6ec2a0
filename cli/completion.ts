import { Argument, type Command } from 'commander';
import type { Terminal } from './terminal.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** A verb as a shell completes it. */
interface Verb {
  readonly name: string;
  readonly text: string;
  readonly flags: readonly { readonly flag: string; readonly text: string; readonly takesValue: boolean }[];
}

const INSTALL: Readonly<Record<Shell, string>> = {
  bash: 'funcatron completion bash > ~/.local/share/bash-completion/completions/funcatron',
  zsh: 'funcatron completion zsh > "${fpath[1]}/_funcatron"',
  fish: 'funcatron completion fish > ~/.config/fish/completions/funcatron.fish',
};

/** `funcatron completion <shell>`: a script made from the command tree, with nothing to run at completion time. */
export function registerCompletion(program: Command, terminal: Terminal): void {
  program
    .command('completion')
    .description('Print a completion script.')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .addHelpText('after', `\nExamples:\n${SHELLS.map((shell) => `  ${INSTALL[shell]}`).join('\n')}`)
    .action((shell: Shell) => terminal.out(completionScript(program, shell)));
}

/** The script for one shell. */
export function completionScript(program: Command, shell: Shell): string {
  return SCRIPTS[shell](program.commands.map(describeVerb));
}

const SCRIPTS: Readonly<Record<Shell, (verbs: readonly Verb[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

function describeVerb(command: Command): Verb {
  const help = { flag: '--help', text: 'show what this verb takes', takesValue: false };
  const flags = command.options.map((option) => ({
    flag: option.long ?? option.flags,
    text: firstSentence(option.description),
    takesValue: option.required || option.optional,
  }));
  return { name: command.name(), text: firstSentence(command.description()), flags: [...flags, help] };
}

/** Descriptions go into single quotes, and zsh gives `[`, `]` and `:` a meaning. */
function firstSentence(text: string): string {
  return (/^.*?(?=[.;(]\s|\s\(|$)/.exec(text)?.[0] ?? text).replace(/['`[\]:\\]/g, '').replace(/\.$/, '');
}

function bashScript(verbs: readonly Verb[]): string {
  const cases = verbs.map((verb) => `    ${verb.name}) words='${verb.flags.map(({ flag }) => flag).join(' ')}' ;;`);
  return `# bash completion for funcatron
_funcatron() {
  local words current="\${COMP_WORDS[COMP_CWORD]}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${verbs.map(({ name }) => name).join(' ')} --help --version' -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _funcatron funcatron`;
}

function zshScript(verbs: readonly Verb[]): string {
  const cases = verbs.map((verb) => {
    const flags = verb.flags.map(
      ({ flag, text, takesValue }) => `'${flag}[${text}]${takesValue ? ':value:_files' : ''}'`,
    );
    return `    ${verb.name}) _arguments ${[...flags, "'*:file:_files'"].join(' ')} ;;`;
  });
  return `#compdef funcatron
_funcatron() {
  local -a verbs=(
${verbs.map(({ name, text }) => `    '${name}:${text}'`).join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe 'verb' verbs
    return
  fi
  local verb="\${words[2]}"
  shift words
  (( CURRENT-- ))
  case "$verb" in
${cases.join('\n')}
  esac
}
_funcatron "$@"`;
}

function fishScript(verbs: readonly Verb[]): string {
  const lines = verbs.flatMap((verb) => [
    `complete -c funcatron -n __fish_use_subcommand -f -a ${verb.name} -d '${verb.text}'`,
    ...verb.flags.map(
      ({ flag, text, takesValue }) =>
        `complete -c funcatron -n '__fish_seen_subcommand_from ${verb.name}' -l ${flag.slice(2)}${takesValue ? ' -r' : ''} -d '${text}'`,
    ),
  ]);
  return ['# fish completion for funcatron', ...lines].join('\n');
}
