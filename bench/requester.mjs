// Request and reply through RabbitMQ with amqplib alone: `node requester.mjs URL QUEUE OUTSTANDING SECONDS [confirm]` keeps
// so many requests on their way to responder.mjs, with publisher confirms where it says so; the body is in the file named by BENCH_BODY_FILE. Prints JSON.
import { readFileSync } from 'node:fs';
import { connect } from 'amqplib';

const [url, queue, outstanding, seconds, confirm] = process.argv.slice(2);
const body = readFileSync(process.env['BENCH_BODY_FILE']);
const connection = await connect(url, { noDelay: true });
const channel = await (confirm === 'confirm' ? connection.createConfirmChannel() : connection.createChannel());
const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
const latencies = [];
const sentMs = new Map();
let next = 0;
const cpuBefore = process.cpuUsage();
const startedMs = performance.now();
await channel.consume(
  replyTo,
  ({ properties }) => {
    const nowMs = performance.now();
    latencies.push(nowMs - sentMs.get(properties.correlationId));
    sentMs.delete(properties.correlationId);
    if (nowMs - startedMs < Number(seconds) * 1_000) send();
    else if (sentMs.size === 0) void report(nowMs - startedMs);
  },
  { noAck: true },
);
for (let first = 0; first < Number(outstanding); first++) send();

function send() {
  const correlationId = String(next++);
  sentMs.set(correlationId, performance.now());
  channel.sendToQueue(queue, body, { replyTo, correlationId });
}

async function report(ms) {
  const { user, system } = process.cpuUsage(cpuBefore);
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.floor(latencies.length * share)];
  const calls = latencies.length;
  const figures = { calls, callsPerS: (calls / ms) * 1_000, p50Ms: at(0.5), p99Ms: at(0.99), errors: 0 };
  process.stdout.write(JSON.stringify({ ...figures, requesterUs: (user + system) / calls }));
  await connection.close();
}
