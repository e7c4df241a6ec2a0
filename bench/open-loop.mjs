// Posts to a URL at a fixed rate whatever the answers do (open loop): `node open-loop.mjs URL RATE SECONDS CONNECTIONS`,
// the body in the file named by BENCH_BODY_FILE. A call's latency counts from the moment it was meant to leave, so that
// calls which wait because earlier ones are slow count as slow (no coordinated omission). Prints JSON.
// Plain sockets with one request at a time: `node:http` would be the slowest part of the loop.
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const [url = '', rate = '', seconds = '', connections = '64'] = process.argv.slice(2);
const { hostname, port, pathname } = new URL(url);
const body = readFileSync(process.env['BENCH_BODY_FILE'] ?? '');
const head = `POST ${pathname} HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`;
const request = Buffer.concat([Buffer.from(head), body]);
const gapMs = 1_000 / Number(rate);
const count = Math.round(Number(rate) * Number(seconds));

const latencies = new Float64Array(count);
/** How late a call left although a connection was free: the generator's own fault. */
const lateness = new Float64Array(count);
const free = [];
let sent = 0;
let done = 0;
let errors = 0;
let startedMs = 0;

function open() {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    const line = { socket, call: -1, left: 0, text: '' };
    socket.once('connect', () => resolve(line));
    socket.once('error', reject);
    socket.on('data', (chunk) => onData(line, chunk));
    socket.on('close', () => {
      if (line.call >= 0) finish(line, true);
    });
  });
}

function onData(line, chunk) {
  if (line.left > 0) {
    line.left -= chunk.length;
    if (line.left <= 0) release(line);
    return;
  }
  line.text += chunk.toString('latin1');
  const end = line.text.indexOf('\r\n\r\n');
  if (end < 0) return;
  const length = /\r\ncontent-length: *(\d+)/i.exec(line.text.slice(0, end))?.[1];
  if (length === undefined) throw new Error('the response says no length');
  if (!line.text.startsWith('HTTP/1.1 200')) errors++;
  line.left = Number(length) - (line.text.length - end - 4);
  line.text = '';
  if (line.left <= 0) release(line);
}

function release(line) {
  finish(line, false);
  line.left = 0;
  const wasStarved = free.length === 0;
  free.push(line);
  sendDue(wasStarved);
}

function finish(line, isBroken) {
  latencies[line.call] = performance.now() - startedMs - line.call * gapMs;
  line.call = -1;
  if (isBroken) errors++;
  if (++done === count) report();
}

function sendDue(wasStarved) {
  const nowMs = performance.now() - startedMs;
  while (sent < count && free.length > 0 && sent * gapMs <= nowMs) {
    const line = free.pop();
    if (!wasStarved) lateness[sent] = nowMs - sent * gapMs;
    line.call = sent++;
    line.socket.write(request);
  }
}

function report() {
  const at = (samples, share) => samples.toSorted()[Math.min(count - 1, Math.floor(count * share))];
  const result = { p50Ms: at(latencies, 0.5), p99Ms: at(latencies, 0.99), maxMs: at(latencies, 1), errors };
  process.stdout.write(JSON.stringify({ ...result, generatorLateP99Ms: at(lateness, 0.99) }));
  process.exit(0);
}

free.push(...(await Promise.all(Array.from({ length: Number(connections) }, open))));
startedMs = performance.now() + 50;
// Timers are no finer than 1 ms: what a timer's delay costs a call counts, for every subject alike.
setInterval(sendDue, 1, false);
