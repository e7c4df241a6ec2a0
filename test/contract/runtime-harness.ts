import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { IsolateKind, WorkerSpec } from '../../runner/isolate/isolate.ts';
import type { RuntimeOptions } from '../../runner/runtimes/framed.ts';
import { silentLog, specOf, WorkerHarness } from './isolate-harness.ts';

/** Files of a bundle, by name. */
export type Files = Readonly<Record<string, string | Buffer>>;

/** Workers of a runtime that loads files, each with a folder of its own; ended and removed after each test. */
export class RuntimeStarter {
  readonly #create: (options: RuntimeOptions) => IsolateKind;
  #kind: IsolateKind | undefined;
  #workers: WorkerHarness[] = [];
  #folders: string[] = [];

  constructor(create: (options: RuntimeOptions) => IsolateKind) {
    this.#create = create;
  }

  /** @param perform what the runner does for it, from its start */
  async start(
    files: Files,
    overrides: Partial<WorkerSpec> = {},
    handlers = ['run'],
    perform?: WorkerHarness['perform'],
  ): Promise<WorkerHarness> {
    if (this.#kind === undefined) {
      execFileSync(process.execPath, ['tools/build-inside.mjs']);
      this.#kind = this.#create({ log: silentLog });
    }
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-runtime-'));
    this.#folders.push(folder);
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    const harness = new WorkerHarness();
    if (perform !== undefined) harness.perform = perform;
    harness.worker = await this.#kind.start(specOf('', { folder, ...overrides }, handlers), harness.events);
    this.#workers.push(harness);
    return harness;
  }

  /** Processes that run for the workers, with their folder on the command line: the one they were given, or a copy. */
  processes(): readonly number[] {
    const pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
    const folders = [...this.#folders, `funcatron-programs-${process.pid}-`];
    return pids.filter((pid) => !isGone(pid) && folders.some((folder) => commandOf(pid).includes(folder)));
  }

  async endAll(): Promise<void> {
    const workers = this.#workers;
    this.#workers = [];
    for (const { worker } of workers) worker.kill();
    await Promise.all(workers.map(({ exited }) => exited));
    await this.#kind?.close?.();
    for (const folder of this.#folders) rmSync(folder, { recursive: true });
    this.#folders = [];
  }
}

/** Whether a process runs no more; one that nobody has waited for does not. */
export function isGone(pid: number): boolean {
  try {
    return / [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return true;
  }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return ''; // gone meanwhile
  }
}
