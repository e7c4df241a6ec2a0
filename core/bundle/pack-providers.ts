import { spawn } from 'node:child_process';
import { SourceMap } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { FuncatronError, type Problem } from '../errors.ts';
import type { JsonObject } from '../openapi/api.ts';
import type { PackedCode } from './pack-code.ts';

/** How long the providers of a bundle may take to say what its document is. */
const TIMEOUT_MS = 20_000;

/** What the child is given on its standard input, as JSON. */
export interface ProvidersInput {
  readonly code: string;
  readonly document: JsonObject;
  readonly config: unknown;
}

/** What it says on fd 3, as JSON. */
export type ProvidersOutput =
  | { readonly document: JsonObject; readonly hasDispatcher: boolean }
  | { readonly error: string; readonly stack: string };

/** What the providers of a bundle say of it. */
export interface ProvidedDocument {
  /** What `getSwagger` and `getVersion` make of the document. */
  readonly document: JsonObject;
  /** Funcs are found by the bundle's own `dispatcherFor`, not by their exports. */
  readonly hasDispatcher: boolean;
}

/**
 * Runs the operation providers of a packed bundle: its author's code, on the author's machine, all the same in a process
 * of its own with an empty environment, without files, network and children.
 * @throws INVALID_BUNDLE with the provider's own error and its position
 */
export async function runProviders(
  { code, map }: Pick<PackedCode, 'code' | 'map'>,
  document: JsonObject,
  config: unknown,
): Promise<ProvidedDocument> {
  const { filename } = import.meta;
  const script = join(dirname(filename), `providers-child${extname(filename)}`);
  const child = spawn(process.execPath, ['--permission', `--allow-fs-read=${dirname(filename)}`, script], {
    env: {},
    stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const [stdin, , stderr, answer] = child.stdio;
  if (stdin === null || stderr === null || answer === undefined || answer === null || !('read' in answer)) {
    throw new FuncatronError('INTERNAL', 'the process of the providers has no pipes');
  }
  stdin.on('error', () => undefined); // It ended early: its answer says why.
  stdin.end(JSON.stringify({ code, document, config } satisfies ProvidersInput));
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (exitCode, signal) => resolve(`it ended with ${signal ?? `code ${exitCode}`}`));
  });
  const [said, complaints, end] = await Promise.all([text(answer), text(stderr), exited]);
  if (said === '')
    throw refused({
      message: `the providers did not say what the document is: ${end}`,
      hint: complaints.slice(-1_000),
    });
  const output = JSON.parse(said) as ProvidersOutput;
  if ('error' in output) {
    const hint = 'getSwagger and getVersion run here, without files, network and environment';
    throw refused({ message: output.error, ...positionOf(output.stack, map), hint });
  }
  return output;
}

function refused(problem: Problem): FuncatronError {
  const message = `cannot pack the bundle: its providers failed: ${problem.message}`;
  return new FuncatronError('INVALID_BUNDLE', message, { data: { problems: [problem] } });
}

function positionOf(stack: string, map: string): Pick<Problem, 'file' | 'line' | 'column'> {
  const [, line, column] = /bundle\.js:(\d+):(\d+)/.exec(stack) ?? [];
  if (line === undefined || column === undefined) return {};
  const sources = new SourceMap(JSON.parse(map) as ConstructorParameters<typeof SourceMap>[0]);
  const origin = sources.findOrigin(Number(line), Number(column));
  if (!('fileName' in origin)) return {};
  return { file: origin.fileName, line: origin.lineNumber, column: origin.columnNumber };
}
