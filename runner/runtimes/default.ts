import type { Log } from '../../core/log.ts';
import type { IsolateKind } from '../isolate/isolate.ts';
import { CallPrograms } from './call-programs.ts';
import { environmentOf } from './environment.ts';
import { ProgramWorker } from './program-worker.ts';
import { openProgramWalls } from './program.ts';
import { commandOf } from './start-command.ts';

/**
 * The `default` runtime: a program per call. Its stdin is the body, its stdout the result, its stderr the log, its
 * environment the call's metadata; an exit code other than 0 is a failed call (Fn's default format, Nuclio's shell).
 */
export function createDefaultRuntime({ log }: { readonly log: Log }): IsolateKind {
  const walls = openProgramWalls(log);
  return {
    name: 'default',
    async start(spec, events) {
      const environment = environmentOf(spec, 'default');
      const command = commandOf(spec, environment['PATH'] ?? '');
      const programs = new CallPrograms({ spec, events, walls: await walls(), environment, ...command });
      return new ProgramWorker(spec, events, programs);
    },
  };
}
