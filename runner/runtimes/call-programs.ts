import type { ChildProcess } from 'node:child_process';
import { delay } from '../../core/lifecycle.ts';
import type { WorkerEvents, WorkerSpec } from '../isolate/isolate.ts';
import type { CallBody } from './call-body.ts';
import { CallOutput } from './call-output.ts';
import { environmentOfCall } from './environment.ts';
import type { Driver, ProgramCall, ProgramFailure, ProgramReply } from './program-call.ts';
import { logOutput } from './program-output.ts';
import type { Home } from './homes.ts';
import { startProgram } from './program.ts';
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
  readonly #running = new Map<ProgramCall, CallOutput>();
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
    const output = new CallOutput(child, call.streams, (detail) => {
      const stderr = tail.text;
      onLog({ time: Date.now(), level: 'error', message: `the program failed: ${detail}`, fields: { stderr } });
    });
    this.#running.set(call, output);
    void output.ended.then(() => this.#running.delete(call));
    if (Buffer.isBuffer(call.body)) child.stdin?.end(call.body);
    else pour(call.body, child, output);
    return await output.outcome;
  }

  /** The program runs for this call alone. */
  abandon(call: ProgramCall): void {
    this.#running.get(call)?.kill();
  }

  async close(ms: number): Promise<void> {
    const done = new AbortController();
    const ends = [...this.#running.values()].map(({ ended }) => ended);
    await Promise.race([Promise.all(ends), delay(ms, done.signal)]);
    done.abort();
    this.#stop({ reason: 'closed', detail: 'it was closed' });
  }

  kill(detail: string): void {
    this.#stop({ reason: 'killed', detail });
  }

  #stop(exit: Awaited<Driver['ended']>): void {
    for (const output of this.#running.values()) output.kill();
    this.#end(exit);
  }
}

/** Gives a program its stdin as it reads it. Without the rest it could not know that what it has is not all. */
function pour(body: CallBody, { stdin }: ChildProcess, output: CallOutput): void {
  body.read({
    onPiece: (piece) => stdin?.write(piece) === true,
    onEnd: () => stdin?.end(),
    onBreak: () => output.kill(),
  });
  stdin?.on('drain', () => body.resume());
}
