import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { delay } from '../core/lifecycle.ts';

export const root = join(import.meta.dirname, '..');

/** A program started for a measurement. */
export interface Started {
  readonly pid: number;
  /** Milliseconds from exec until its `ready` condition held. */
  readonly readyAfterMs: number;
  stop(): Promise<void>;
}

/** Those that have not ended: they end with this process, which a process group of their own would not see to. */
const running = new Set<ChildProcess>();

/** Starts a program and waits until `ready` says so; throws with its output when it ends before. */
export async function start(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  ready: (output: string) => boolean | Promise<boolean>,
): Promise<Started> {
  const began = performance.now();
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A process group of its own, so that npm's children are signalled as by Ctrl-C.
    detached: true,
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => (text = (text + chunk).slice(-20_000)));
  if (process.listenerCount('exit', killRunning) === 0) process.once('exit', killRunning);
  running.add(child);
  const ended = new Promise<void>((resolve) =>
    child.once('exit', () => {
      running.delete(child);
      resolve();
    }),
  );
  while (!(await ready(text))) {
    if (child.exitCode !== null || performance.now() - began > 60_000) {
      signalGroup(child, 'SIGKILL');
      throw new Error(`${command} ${args.join(' ')} did not get ready:\n${text}`);
    }
    await delay(5);
  }
  return { pid: child.pid ?? 0, readyAfterMs: performance.now() - began, stop: () => stop(child, ended) };
}

async function stop(child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.exitCode !== null) return;
  signalGroup(child, 'SIGINT');
  await Promise.race([ended, delay(10_000)]);
  if (child.exitCode === null) signalGroup(child, 'SIGKILL');
  await ended;
}

function killRunning(): void {
  for (const child of running) signalGroup(child, 'SIGKILL');
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-(child.pid ?? 0), signal);
  } catch {
    // the whole group ended meanwhile
  }
}

/** Whether a URL answers with a status below 500. */
export async function answers(url: string, init?: RequestInit): Promise<boolean> {
  try {
    const response = await fetch(url, init);
    await response.arrayBuffer();
    return response.status < 500;
  } catch {
    return false; // Not listening yet.
  }
}

/** A folder that `remove` deletes. */
export async function temporaryFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'funcatron-bench-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** The middle value; the mean of the two middle ones when there is an even number. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
