import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What a closed loop of HTTP calls showed. */
export interface LoadResult {
  readonly callsPerS: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers with a status of 400 and more, and broken connections. */
  readonly errors: number;
  /** CPU microseconds per call of each watched process, by name. */
  readonly cpuUs: Readonly<Record<string, number>>;
}

/** The body every measurement sends: about 200 bytes of JSON. */
export const BODY = JSON.stringify({
  title: 'a call of about two hundred bytes',
  count: 7,
  tags: ['alpha', 'beta', 'gamma'],
  note: 'x'.repeat(90),
});

const TICKS_PER_S = 100; // USER_HZ on every Linux that Node runs on.

/** CPU seconds a process has used so far, its own children excluded. */
function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
}

/**
 * Posts `BODY` to `url` over `connections` connections for `seconds`, with wrk (closed loop), and reads the CPU time
 * of the watched processes before and after.
 */
export async function load(
  url: string,
  connections: number,
  seconds: number,
  watched: Readonly<Record<string, number>>,
): Promise<LoadResult> {
  const before = Object.entries(watched).map(([name, pid]) => [name, pid, cpuSeconds(pid)] as const);
  const script = join(import.meta.dirname, 'post.lua');
  const text = await output('wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', '-s', script, url]);
  const calls = number(/(\d+) requests in/, text);
  const cpuUs = Object.fromEntries(
    before.map(([name, pid, start]) => [name, ((cpuSeconds(pid) - start) * 1e6) / Math.max(1, calls)]),
  );
  const broken = [...(/Socket errors: (.*)/.exec(text)?.[1] ?? '').matchAll(/\d+/g)].reduce(
    (sum, [count]) => sum + Number(count),
    0,
  );
  return {
    callsPerS: number(/Requests\/sec:\s+([\d.]+)/, text),
    p50Ms: milliseconds(/50%\s+([\d.]+)(us|ms|s)/, text),
    p99Ms: milliseconds(/99%\s+([\d.]+)(us|ms|s)/, text),
    errors: number(/Non-2xx or 3xx responses: (\d+)/, text) + broken,
    cpuUs,
  };
}

/** Standard output of a program that ends well; throws with its error output otherwise. */
function output(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    child.on('error', (cause) =>
      reject(new Error(`cannot run ${command}; install it first (Debian: apt-get install ${command})`, { cause })),
    );
    child.on('close', (code) =>
      code === 0 ? resolve(out) : reject(new Error(`${command} ended with ${code}: ${err || out}`)),
    );
  });
}

function number(pattern: RegExp, text: string): number {
  return Number(pattern.exec(text)?.[1] ?? 0);
}

function milliseconds(pattern: RegExp, text: string): number {
  const [, value = '0', unit = 'ms'] = pattern.exec(text) ?? [];
  return Number(value) * (unit === 'us' ? 0.001 : unit === 's' ? 1_000 : 1);
}
