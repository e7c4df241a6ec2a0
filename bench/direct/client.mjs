// Posts so many zero bytes to a URL and reads the answer: `node client.mjs URL BYTES`. Prints JSON. A plain socket, one
// buffer written over and over and one that every read goes into: it costs about what the kernel takes to copy.
import { connect } from 'node:net';

const WRITE_BYTES = 1024 * 1024;
const READ_BYTES = 256 * 1024;
const TAIL_BYTES = 200;

const [url = '', bytesText = ''] = process.argv.slice(2);
const { hostname, port, pathname } = new URL(url);
const bytes = Number(bytesText);
const zeros = Buffer.alloc(WRITE_BYTES);
let left = bytes;
let received = 0;
let head = '';
/** The last bytes that came: they say whether the answer is whole. */
let tail = '';

const cpuBefore = process.cpuUsage();
const startedMs = performance.now();
const socket = connect({
  host: hostname,
  port: Number(port),
  onread: { buffer: Buffer.alloc(READ_BYTES), callback: onRead },
});
socket.on('connect', () => {
  socket.write(
    `POST ${pathname} HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/octet-stream\r\ncontent-length: ${bytes}\r\n\r\n`,
  );
  send();
});
socket.on('drain', send);
socket.on('error', (error) => fail(String(error)));
socket.on('close', () => fail(`the answer is not whole: ${received} bytes of ${head.slice(0, 1_000)}`));

function send() {
  while (left > 0) {
    const piece = left < WRITE_BYTES ? zeros.subarray(0, left) : zeros;
    left -= piece.length;
    if (!socket.write(piece)) return;
  }
}

function onRead(count, buffer) {
  if (head.length < 4_096) head += buffer.latin1Slice(0, Math.min(count, 4_096));
  received += count;
  tail = (tail + buffer.latin1Slice(Math.max(0, count - TAIL_BYTES), count)).slice(-TAIL_BYTES);
  if (left === 0 && (tail.endsWith('0\r\n\r\n') || isCounted())) report();
  return true;
}

function report() {
  const seconds = (performance.now() - startedMs) / 1_000;
  if (!head.startsWith('HTTP/1.1 200')) fail(head.slice(0, 1_000));
  const { user, system } = process.cpuUsage(cpuBefore);
  process.stdout.write(JSON.stringify({ seconds, received, tail, cpuS: (user + system) / 1e6 }));
  process.exit(0);
}

/** It says its length, and has it. */
function isCounted() {
  const end = head.indexOf('\r\n\r\n') + 4;
  return received - end === Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
}

function fail(why) {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}
