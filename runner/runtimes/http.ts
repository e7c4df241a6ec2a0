import { TimerWheel } from '../../core/deadline.ts';
import { FuncatronError } from '../../core/errors.ts';
import { delay } from '../../core/lifecycle.ts';
import type { IsolateKind, WorkerSpec } from '../isolate/isolate.ts';
import type { ProgramRuntimeOptions } from './default.ts';
import { environmentOf } from './environment.ts';
import { Homes } from './homes.ts';
import { HttpDriver } from './http-driver.ts';
import { HttpProgram } from './http-program.ts';
import { logOutput } from './program-output.ts';
import { openProgramWalls } from './program-walls.ts';
import { ProgramWorker } from './program-worker.ts';
import { startProgram } from './program.ts';
import { commandOf, folderOf } from './start-command.ts';
import { StderrTail } from './stderr-tail.ts';

/** A program that cannot run says so soon: how long the first worker of a revision is watched before it counts as started. */
const PROVING_MS = 500;

/**
 * The `http` runtime: Fn's hot functions. A worker is one program, started once, which reads HTTP/1.1 requests from stdin
 * and writes HTTP/1.1 responses to stdout (fnproject/fn, docs/developers/function-format.md, "HTTP I/O Format").
 */
export function createHttpRuntime({ log, hidden = [] }: ProgramRuntimeOptions): IsolateKind {
  const openWalls = openProgramWalls(log, { hidden });
  const homes = new Homes(log);
  const wheel = new TimerWheel();
  /** Revisions of which a program has run here: later ones need no proof, and calls may be waiting for them. */
  const proven = new Set<string>();
  return {
    name: 'http',
    async start(spec, events) {
      const walls = await openWalls();
      const home = await homes.open(folderOf(spec), walls.users);
      const { folder, user } = home;
      const { memoryMb } = spec;
      try {
        const environment = environmentOf(spec, 'http', home);
        const command = commandOf(spec, folder, environment['PATH'] ?? '');
        const start = (): HttpProgram => {
          const child = startProgram({ walls, command, folder, environment, memoryMb, user });
          const program = new HttpProgram(child, new StderrTail(child.stderr), spec.directBytes);
          logOutput(child.stderr, 'info', {
            onLog(line) {
              const { current } = program;
              const about = current === undefined ? {} : { callId: current.id, operationId: current.operationId };
              events.onLog({ ...line, ...about });
            },
          });
          return program;
        };
        const program = start();
        const key = `${spec.bundle}@${spec.revision}`;
        if (!proven.has(key)) await prove(spec, program, folder);
        proven.add(key);
        const driver = new HttpDriver(program, start);
        void driver.ended.then(() => home.close());
        return new ProgramWorker(spec, events, driver, wheel);
      } catch (error) {
        await home.close();
        throw error;
      }
    },
    close: () => homes.close(),
  };
}

async function prove(spec: WorkerSpec, program: HttpProgram, folder: string): Promise<void> {
  const timer = new AbortController();
  const exit = await Promise.race([program.ended, delay(PROVING_MS, timer.signal)]);
  timer.abort();
  if (exit === undefined) return;
  const what = `bundle ${spec.bundle}, revision ${spec.revision}`;
  // The last line is in the detail.
  const words = program.stderr.lastLines().replaceAll(`${folder}/`, '');
  const how = words.includes('\n') ? `${exit.detail}\n${words}` : exit.detail;
  const hint = program.isSpoiled
    ? 'stdout is for responses alone; write everything else to stderr, which goes to the log'
    : 'a program of runtime http reads requests from stdin until that ends; see docs/runtimes.md';
  throw new FuncatronError('DEPLOY_FAILED', `${what}: its program ended as soon as it had started: ${how}`, {
    data: { hint },
  });
}
