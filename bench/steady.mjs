// Posts to a URL at a fixed rate, whatever the answers do (open loop): `node steady.mjs <url> <calls per second> <seconds>`.
// Every call is measured from the moment it was meant to leave, so that a late one counts as late. Prints JSON.
import { Agent, request } from 'node:http';

const [url = '', rate = '200', seconds = '5'] = process.argv.slice(2);
const body = process.env['BODY'] ?? '{}';
const agent = new Agent({ keepAlive: true, maxSockets: 512 });
const gapMs = 1_000 / Number(rate);
const count = Math.round(Number(rate) * Number(seconds));
const latencies = [];
let sent = 0;
let errors = 0;
const startedMs = performance.now() + 100;
const timer = setInterval(sendDue, 1);

function sendDue() {
  for (; sent < count && startedMs + sent * gapMs <= performance.now(); sent++) send(startedMs + sent * gapMs);
  if (sent === count) clearInterval(timer);
}

function send(meantMs) {
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const req = request(url, { method: 'POST', agent, headers }, (res) => {
    if (res.statusCode !== 200) errors++;
    res.resume().on('end', () => end(meantMs));
  });
  req.on('error', () => {
    errors++;
    end(meantMs);
  });
  req.end(body);
}

function end(meantMs) {
  latencies.push(performance.now() - meantMs);
  if (latencies.length < count) return;
  agent.destroy();
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.min(count - 1, Math.floor(count * share))];
  process.stdout.write(JSON.stringify({ p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1), errors }));
}
