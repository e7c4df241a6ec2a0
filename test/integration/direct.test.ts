import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { openEmbedded, type EmbeddedCluster } from '../helpers/embedded.ts';
import { until } from '../helpers/until.ts';

const BYTES = 3_000_000;

describe('the direct path', () => {
  let cluster: EmbeddedCluster;
  let url: string;

  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    await cluster.deploy(join(import.meta.dirname, '../fixtures/bundles/direct'));
    url = `${cluster.httpUrl}/direct`;
  });
  after(() => cluster.close());

  function post(path: string, body: RequestInit['body'], contentType = 'application/octet-stream'): Promise<Response> {
    const streams = body instanceof ReadableStream ? { duplex: 'half' as const } : {};
    return fetch(url + path, {
      method: 'POST',
      body: body ?? null,
      headers: { 'content-type': contentType },
      ...streams,
    });
  }

  async function jsonOf(response: Response): Promise<Record<string, unknown>> {
    return (await response.json()) as Record<string, unknown>;
  }

  /** Bytes whose places can be told apart. */
  const pattern = (length: number): Uint8Array =>
    Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8)) & 255);

  it('gives a func its body piece by piece', async () => {
    const answer = await jsonOf(await post('/hash', pattern(BYTES)));
    assert.equal(answer['bytes'], BYTES);
    assert.ok(Number(answer['pieces']) > 1, `${String(answer['pieces'])} pieces`);
  });

  for (const [what, body, bytes] of [
    ['a short body', 'hello', 5],
    ['no body', undefined, 0],
  ] as const) {
    it(`takes ${what} the same way`, async () => {
      assert.equal((await jsonOf(await post('/hash', body)))['bytes'], bytes);
    });
  }

  it('takes a body of unknown length as it comes', async () => {
    const pieces = ['one', 'two', 'three'];
    const body = new ReadableStream({
      async pull(controller) {
        const piece = pieces.shift();
        await new Promise((resolve) => setTimeout(resolve, 20));
        if (piece === undefined) controller.close();
        else controller.enqueue(new TextEncoder().encode(piece));
      },
    });
    assert.deepEqual(await (await post('/hash', body)).json(), { bytes: 11, pieces: 3 });
  });

  it('sends on what a func passes on, byte for byte', async () => {
    const body = pattern(BYTES);
    const response = await post('/pass', body, 'image/png');
    assert.equal(response.headers.get('content-type'), 'image/png');
    assert.equal(response.headers.get('content-length'), null);
    assert.ok(Buffer.from(await response.arrayBuffer()).equals(body));
  });

  it('keeps bodies apart that pass at the same time, slowly or not to their end', async () => {
    const one = async (seed: number): Promise<void> => {
      const body = Buffer.alloc(BYTES + seed * 10_007, pattern(65_000 + seed));
      const response = await post('/pass', body);
      const pieces: Uint8Array[] = [];
      for await (const piece of response.body ?? assert.fail()) {
        pieces.push(piece.slice());
        if (seed % 3 === 1) await new Promise(setImmediate);
        if (seed % 3 === 2 && pieces.length === 10) return;
      }
      assert.ok(Buffer.concat(pieces).equals(body), `body ${seed}`);
    };
    for (let round = 0; round < 2; round++) await Promise.all(Array.from({ length: 12 }, (_, seed) => one(seed)));
  });

  it('answers while the body is still on its way', async () => {
    const upload = request(`${url}/pass`, { method: 'POST', headers: { 'content-type': 'text/plain' } });
    upload.write('first');
    const [response] = await new Promise<[IncomingMessage]>((resolve) =>
      upload.on('response', (each) => resolve([each])),
    );
    const received: string[] = [];
    for await (const piece of response) {
      received.push(String(piece));
      if (received.length === 1) upload.end('second');
    }
    assert.equal(received.join(), 'first,second');
  });

  it('ends the connection of a client that asked for it, when all of both bodies is through', async () => {
    const { host, hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    const head = `POST /direct/pass HTTP/1.1\r\nHost: ${host}\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n`;
    socket.write(`${head}Connection: close\r\n\r\nfirst`);
    await until('it has begun to answer', () => String(socket.read() ?? '').includes('first'));
    socket.write('after');
    let rest = '';
    socket.on('data', (piece) => (rest += String(piece)));
    await once(socket, 'end', { signal: AbortSignal.timeout(10_000) });
    assert.match(rest, /after\r\n0\r\n\r\n$/);
  });

  it('gives a func that reads its body whole a long one whole', async () => {
    assert.deepEqual(await (await post('/whole', pattern(BYTES))).json(), { bytes: BYTES });
  });

  it('validates a long body before it goes anywhere', async () => {
    const long = 'x'.repeat(200_000);
    assert.equal((await post('/whole', JSON.stringify({ name: long }), 'application/json')).status, 200);
    const refused = await post('/whole', JSON.stringify({ nam: long }), 'application/json');
    assert.equal(refused.status, 400);
    assert.equal((await jsonOf(refused))['code'], 'INVALID_REQUEST');
  });

  for (const bytes of [100, 65_536, 65_537, 5_000_000]) {
    it(`brings an answer of ${bytes} bytes, and says how long it is`, async () => {
      const response = await fetch(`${url}/long?bytes=${bytes}`);
      assert.equal(response.headers.get('content-length'), String(bytes));
      const body = Buffer.from(await response.arrayBuffer());
      assert.equal(body.length, bytes);
      assert.ok(body.every((byte) => byte === 7));
    });
  }

  it('says how long a long answer is to HEAD, without the body', async () => {
    const response = await fetch(`${url}/long?bytes=5000000`, { method: 'HEAD' });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-length'), '5000000');
  });

  it('sends events as they are made, and trailers behind them', async () => {
    const [pieces, trailers] = await new Promise<[string[], NodeJS.Dict<string>]>((resolve, reject) => {
      const got: string[] = [];
      const req = request(`${url}/events?count=3`, (res) => {
        assert.equal(res.headers['content-type'], 'text/event-stream');
        res.on('data', (piece) => got.push(String(piece)));
        res.on('end', () => resolve([got, res.trailers]));
      });
      req.on('error', reject);
      req.end();
    });
    assert.deepEqual(pieces, ['data: 1\n\n', 'data: 2\n\n', 'data: 3\n\n']);
    assert.deepEqual(trailers, { 'x-count': '3' });
  });

  it('refuses a body that is longer than the operation takes, declared or not', async () => {
    const long = pattern(200_000);
    const chunked = new ReadableStream({
      start(controller) {
        controller.enqueue(long);
        controller.close();
      },
    });
    for (const body of [long, chunked]) {
      const response = await post('/short', body);
      assert.equal(response.status, 413);
      assert.equal((await jsonOf(response))['code'], 'PAYLOAD_TOO_LARGE');
    }
    assert.equal((await post('/short', pattern(100_000))).status, 200);
  });
});
