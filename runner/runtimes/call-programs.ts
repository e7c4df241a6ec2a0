import type { ChildProcess } from 'node:child_process';
import { isUtf8 } from 'node:buffer';
import { delay } from '../../core/lifecycle.ts';
import { REPLY_BYTES } from '../isolate/bridge.ts';
import type { WorkerEvents, WorkerSpec } from '../isolate/isolate.ts';
import { environmentOfCall } from './environment.ts';
import type { Driver, ProgramCall, ProgramFailure, ProgramReply } from './program-call.ts';
import { logOutput } from './program-output.ts';
import type { Home } from './homes.ts';
import { endOf, killProgram, startProgram } from './program.ts';
import type { ProgramWalls } from './program-walls.ts';
import { StderrTail } from './stderr-tail.ts';

export interface CallProgramsOptions {
  readonly spec: WorkerSpec;
  readonly events: WorkerEvents;
  readonly walls: ProgramWalls;
  readonly environment: Readonly<Record<string, string>>;
  readonly home: Pick<Home, 'folder' | 'user'>;
  readonly words: readonly string[];
}

/** Runs a program for each call. */
export class CallPrograms implements Driver {
  /** No process stands for the worker, so it is the runner's own. */
  readonly pid = process.pid;
  readonly backlogBytes = 0;
  readonly ended: Driver['ended'];
  readonly #options: CallProgramsOptions;
  readonly #running = new Map<ProgramCall, { readonly child: ChildProcess; readonly outcome: Promise<unknown> }>();
  #end: (exit: Awaited<Driver['ended']>) => void = () => undefined;

  constructor(options: CallProgramsOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  async run(call: ProgramCall): Promise<ProgramReply | ProgramFailure> {
    const { spec, events, walls, environment, home, words } = this.#options;
    const child = startProgram({
      walls,
      command: words,
      folder: home.folder,
      user: home.user,
      environment: { ...environment, ...environmentOfCall(call) },
      memoryMb: spec.memoryMb,
    });
    const { id: callId, operationId } = call;
    const onLog: WorkerEvents['onLog'] = (line) => events.onLog({ ...line, callId, operationId });
    logOutput(child.stderr, 'info', { onLog });
    const tail = new StderrTail(child.stderr);
    const outcome = this.#wait(child, (detail) => {
      const stderr = tail.text;
      onLog({ time: Date.now(), level: 'error', message: `the program failed: ${detail}`, fields: { stderr } });
    });
    this.#running.set(call, { child, outcome });
    child.stdin?.end(call.body);
    const settled = await outcome;
    this.#running.delete(call);
    return settled;
  }

  /** The program runs for this call alone. */
  abandon(call: ProgramCall): void {
    const running = this.#running.get(call);
    if (running !== undefined) killProgram(running.child);
  }

  async close(ms: number): Promise<void> {
    const done = new AbortController();
    const outcomes = [...this.#running.values()].map(({ outcome }) => outcome);
    await Promise.race([Promise.all(outcomes), delay(ms, done.signal)]);
    done.abort();
    this.#stop({ reason: 'closed', detail: 'it was closed' });
  }

  kill(detail: string): void {
    this.#stop({ reason: 'killed', detail });
  }

  #stop(exit: Awaited<Driver['ended']>): void {
    for (const { child } of this.#running.values()) killProgram(child);
    this.#end(exit);
  }

  #wait(child: ChildProcess, onFailure: (detail: string) => void): Promise<ProgramReply | ProgramFailure> {
    const parts: Buffer[] = [];
    let bytes = 0;
    child.stdout?.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= REPLY_BYTES) parts.push(chunk);
      else killProgram(child);
    });
    return new Promise((resolve) => {
      const settle = (detail: string | undefined): void => {
        if (bytes > REPLY_BYTES) {
          onFailure(`its result is longer than ${REPLY_BYTES} bytes`);
          return resolve({ code: 'RESPONSE_TOO_LARGE', message: `a result is longer than ${REPLY_BYTES} bytes` });
        }
        if (detail === undefined) return resolve(resultOf(Buffer.concat(parts)));
        onFailure(detail);
        resolve({ code: 'FUNC_CRASHED', message: `the program failed: ${detail}` });
      };
      child.once('error', (error) => settle(`it cannot be started: ${error.message}`));
      // Not 'exit': what it wrote before is read first.
      child.once('close', (code, signal) => settle(code === 0 ? undefined : endOf(code, signal)));
    });
  }
}

/** Nothing written is 204; else the type that the bytes show, as a program has no way to say. */
function resultOf(body: Buffer): ProgramReply {
  if (body.length === 0) return { status: 204, headers: {}, body };
  return { status: 200, headers: { 'content-type': typeOf(body) }, body };
}

function typeOf(body: Buffer): string {
  if (!isUtf8(body)) return 'application/octet-stream';
  const text = body.toString();
  if (/^\s*[[{]/.test(text) && isJson(text)) return 'application/json';
  return 'text/plain; charset=utf-8';
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
