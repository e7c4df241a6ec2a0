import { readFileSync, writeFileSync } from 'node:fs';

const TICKS_PER_S = 100; // USER_HZ on every Linux that Node runs on.

/** A process and all that come from it. */
export function processTree(pid: number): readonly number[] {
  const all = [pid];
  for (let index = 0; index < all.length; index++) all.push(...childrenOf(all[index] ?? 0));
  return all;
}

/** Name of the program a process runs; empty when it has ended. */
export function programOf(pid: number): string {
  return read(`/proc/${pid}/comm`).trim();
}

/** CPU seconds these processes have used so far; one that has ended counts no more. */
export function cpuSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + ticks(pid), 0) / TICKS_PER_S;
}

/** Proportional set size of these processes: memory that several share counts once in all. */
export function pssBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const text = read(`/proc/${pid}/smaps_rollup`);
    return sum + Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
  }, 0);
}

/** Resident set size of these processes: what they share counts in each. */
export function rssBytes(pids: readonly number[]): number {
  return statusBytes(pids, /^VmRSS:\s+(\d+) kB$/m);
}

/** The largest it has been since their start or the last `resetPeakRss`. */
export function peakRssBytes(pids: readonly number[]): number {
  return statusBytes(pids, /^VmHWM:\s+(\d+) kB$/m);
}

/** The peak begins anew. Source: proc_pid_clear_refs(5) */
export function resetPeakRss(pids: readonly number[]): void {
  for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

function statusBytes(pids: readonly number[], line: RegExp): number {
  return pids.reduce((sum, pid) => sum + Number(line.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024, 0);
}

/** Those its main thread has started: Node starts all of them there. */
function childrenOf(pid: number): readonly number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
}

function ticks(pid: number): number {
  const text = read(`/proc/${pid}/stat`);
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
}

function read(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return ''; // It ended meanwhile.
  }
}
