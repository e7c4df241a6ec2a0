import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { BODY, bodyFile } from './bodies.ts';
import { cpuSeconds } from './process-stat.ts';
import { root } from './processes.ts';
import { installPeer } from './peers.ts';

export interface LatencyResult {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers with a status of 400 and more, and broken connections. */
  readonly errors: number;
}

/** What a closed loop of HTTP calls showed. */
export interface LoadResult extends LatencyResult {
  readonly callsPerS: number;
  /** CPU microseconds per call of each watched process, by name. */
  readonly cpuUs: Readonly<Record<string, number>>;
}

export interface OpenLoopResult extends LatencyResult {
  readonly maxMs: number;
  /** p99 of what calls left too late although a connection was free: above a few ms the figures are the generator's. */
  readonly generatorLateP99Ms: number;
}

/** Processes by what they are called in the table. */
export type Watched = Readonly<Record<string, readonly number[]>>;

export interface ClosedLoop {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  readonly body?: string;
  readonly watched?: Watched;
}

let hasWrk: boolean | undefined;

/**
 * Posts over `connections` connections for `seconds`, each with the next call as soon as it has its answer: with wrk,
 * or autocannon where that is not installed. Reads the CPU time of the watched processes before and after.
 */
export async function load({ url, connections, seconds, body = BODY, watched = {} }: ClosedLoop): Promise<LoadResult> {
  const meter = cpuMeter(watched);
  const made = await (isWrkHere() ? wrk : autocannon)(url, connections, seconds, bodyFile(body));
  return { ...made, cpuUs: meter(made.calls) };
}

/** CPU microseconds per call from now on, by process. */
function cpuMeter(watched: Watched): (calls: number) => Record<string, number> {
  const before = Object.entries(watched).map(([name, pids]) => [name, pids, cpuSeconds(pids)] as const);
  return (calls) =>
    Object.fromEntries(
      before.map(([name, pids, start]) => [name, ((cpuSeconds(pids) - start) * 1e6) / Math.max(1, calls)]),
    );
}

export interface OpenLoop {
  readonly url: string;
  readonly callsPerS: number;
  readonly connections: number;
  readonly seconds: number;
}

/** Posts at a fixed rate whatever the answers do; latency counts from the moment a call was meant to leave. */
export async function openLoop({ url, callsPerS, connections, seconds }: OpenLoop): Promise<OpenLoopResult> {
  const args = [join(root, 'bench/open-loop.mjs'), url, String(callsPerS), String(seconds), String(connections)];
  return JSON.parse(await output(process.execPath, args, bodyFile(BODY))) as OpenLoopResult;
}

export interface AmqpLoop {
  readonly brokerUrl: string;
  /** Of a `responder.mjs`. */
  readonly queue: string;
  readonly outstanding: number;
  /** Default: false. */
  readonly isConfirmed?: boolean;
  readonly seconds: number;
  readonly body?: string;
  readonly watched: Watched;
}

/** Request and reply with amqplib alone, so many on their way at once: what the broker allows at most. */
export async function amqpLoad({ brokerUrl, queue, outstanding, seconds, ...loop }: AmqpLoop): Promise<LoadResult> {
  const { body = BODY, watched, isConfirmed = false } = loop;
  const numbers = [outstanding, seconds].map(String);
  const args = [join(root, 'bench/requester.mjs'), brokerUrl, queue, ...numbers, isConfirmed ? 'confirm' : ''];
  const meter = cpuMeter(watched);
  const text = await output(process.execPath, args, bodyFile(body));
  const { requesterUs, ...made } = JSON.parse(text) as Made & { requesterUs: number };
  return { ...made, cpuUs: { requester: requesterUs, ...meter(made.calls) } };
}

type Made = LatencyResult & { readonly callsPerS: number; readonly calls: number };

async function wrk(url: string, connections: number, seconds: number, file: string): Promise<Made> {
  const script = join(root, 'bench/post.lua');
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '--latency', '-s', script, url];
  const text = await output('wrk', args, file);
  const broken = [...(/Socket errors: (.*)/.exec(text)?.[1] ?? '').matchAll(/\d+/g)].reduce(
    (sum, [count]) => sum + Number(count),
    0,
  );
  return {
    calls: number(/(\d+) requests in/, text),
    callsPerS: number(/Requests\/sec:\s+([\d.]+)/, text),
    p50Ms: milliseconds(/50%\s+([\d.]+)(us|ms|s)/, text),
    p99Ms: milliseconds(/99%\s+([\d.]+)(us|ms|s)/, text),
    errors: number(/Non-2xx or 3xx responses: (\d+)/, text) + broken,
  };
}

interface AutocannonResult {
  readonly requests: { readonly total: number };
  readonly latency: { readonly p50: number; readonly p99: number };
  readonly duration: number;
  readonly errors: number;
  readonly non2xx: number;
}

async function autocannon(url: string, connections: number, seconds: number, file: string): Promise<Made> {
  const program = join(installPeer('autocannon'), 'node_modules/autocannon/autocannon.js');
  const flags = ['-j', '-n', '-m', 'POST', '-H', 'content-type=application/json', '-i', file];
  const args = [program, ...flags, '-c', String(connections), '-d', String(seconds), url];
  const { requests, latency, ...made } = JSON.parse(await output(process.execPath, args, file)) as AutocannonResult;
  return {
    calls: requests.total,
    callsPerS: requests.total / made.duration,
    p50Ms: latency.p50,
    p99Ms: latency.p99,
    errors: made.errors + made.non2xx,
  };
}

function isWrkHere(): boolean {
  hasWrk ??= spawnSync('wrk', ['-v'], { stdio: 'ignore' }).error === undefined;
  return hasWrk;
}

/** Standard output of a program that ends well; throws with its error output otherwise. */
function output(command: string, args: readonly string[], file: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const env = { PATH: process.env['PATH'], BENCH_BODY_FILE: file };
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    child.on('error', (cause) => reject(new Error(`cannot run ${command}`, { cause })));
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
