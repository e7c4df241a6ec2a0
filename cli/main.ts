import { EXIT, exitCodeOf, printFailure } from './failure.ts';
import { createProgram } from './program.ts';
import { createTerminal } from './terminal.ts';

const terminal = createTerminal();
try {
  await createProgram(terminal).parseAsync();
  process.exitCode ??= EXIT.ok;
} catch (thrown) {
  printFailure(terminal, thrown);
  process.exitCode = exitCodeOf(thrown);
}
