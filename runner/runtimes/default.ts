import { TimerWheel } from '../../core/deadline.ts';
import type { Log } from '../../core/log.ts';
import type { IsolateKind } from '../isolate/isolate.ts';
import { CallPrograms } from './call-programs.ts';
import { environmentOf } from './environment.ts';
import { Homes } from './homes.ts';
import { ProgramWorker } from './program-worker.ts';
import { openProgramWalls } from './program-walls.ts';
import { commandOf, folderOf } from './start-command.ts';

export interface ProgramRuntimeOptions {
  readonly log: Log;
  /** Folders that programs do not see, where that can be done. */
  readonly hidden?: readonly string[];
}

/**
 * The `default` runtime: a program per call. Its stdin is the body, its stdout the result, its stderr the log, its
 * environment the call's metadata; an exit code other than 0 is a failed call (Fn's default format, Nuclio's shell).
 */
export function createDefaultRuntime({ log, hidden = [] }: ProgramRuntimeOptions): IsolateKind {
  const openWalls = openProgramWalls(log, { hidden });
  const homes = new Homes(log);
  const wheel = new TimerWheel();
  return {
    name: 'default',
    async start(spec, events) {
      const walls = await openWalls();
      const home = await homes.open(folderOf(spec), walls.users);
      try {
        const environment = environmentOf(spec, 'default', home);
        const words = commandOf(spec, home.folder, environment['PATH'] ?? '');
        const programs = new CallPrograms({ spec, events, walls, environment, words, home });
        void programs.ended.then(() => home.close());
        return new ProgramWorker(spec, events, programs, wheel);
      } catch (error) {
        await home.close();
        throw error;
      }
    },
    close: () => homes.close(),
  };
}
