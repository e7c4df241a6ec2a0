import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { callQueue } from '../../../core/wire/topology.ts';
import { testBundle } from '../../helpers/live-bundle.ts';
import { openResponder, type Responder } from '../../helpers/responder.ts';
import { exchangeRaw, openTestFrontend, type TestFrontend } from '../../helpers/test-frontend.ts';
import { until } from '../../helpers/until.ts';

const MiB = 1024 * 1024;
const BUNDLE = testBundle({
  operations: [
    { operationId: 'read', method: 'GET', path: '/files' },
    { operationId: 'write', method: 'PUT', path: '/files', body: { required: false, content: { '*/*': {} } } },
  ],
});
const GET = 'GET /files HTTP/1.1\r\nHost: x\r\n\r\n';

describe('frontend under attack', () => {
  let test: TestFrontend;
  let responder: Responder;
  let body: Buffer;
  let sockets: Socket[];

  beforeEach(async () => {
    body = Buffer.from('ok');
    sockets = [];
    const config = { maxInFlight: 200, maxInFlightPerRevision: 50, maxInFlightBytes: 4 * MiB };
    test = await openTestFrontend({ bundles: [BUNDLE], config });
    responder = await openResponder(test.broker, callQueue('orders', 'aaaaaaaaaaaa'), () => ({ body }));
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await test.close();
  });

  /** A connection that has written this, and reads nothing. */
  async function open(text: string): Promise<void> {
    const socket = connect(test.frontend.port, '127.0.0.1');
    socket.on('error', () => {}); // the server may end it
    sockets.push(socket);
    await new Promise((resolve) => socket.write(text, resolve));
  }

  it('keeps its room for calls although others never send their bodies', async () => {
    const head = 'PUT /files HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n';
    for (let n = 0; n < 30; n++) {
      await open(`${head}Content-Length: 3\r\n\r\na`);
      await open(`${head}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`);
    }
    const put = { method: 'PUT', body: 'abc', headers: { 'content-type': 'text/plain' } };
    assert.equal((await test.fetch('/files', put)).status, 200);
  });

  it('bounds the bytes of bodies that have begun to arrive', async () => {
    const half = `PUT /files HTTP/1.1\r\nHost: x\r\nContent-Length: ${MiB}\r\n\r\n${'a'.repeat(MiB - 1)}`;
    for (let n = 0; n < 4; n++) await open(half);
    const put = { method: 'PUT', body: 'a'.repeat(1_000), headers: { 'content-type': 'text/plain' } };
    await until('there is no room', async () => (await test.fetch('/files', put)).status === 503);
    for (const socket of sockets) socket.destroy();
    await until('there is room again', async () => (await test.fetch('/files', put)).status === 200);
  });

  it('takes no calls while answers that nobody reads fill its memory', async () => {
    body = Buffer.alloc(MiB, 'x');
    // More than the kernel keeps of them on both ends.
    await open(GET.repeat(40));
    const busy = async (): Promise<boolean> => {
      const response = await test.fetch('/files');
      await response.arrayBuffer();
      return response.status === 503;
    };
    await until('there is no room', busy);
    for (const socket of sockets) socket.destroy();
    await until('there is room again', async () => !(await busy()));
  });

  it('puts a body together that comes a byte at a time', async () => {
    const chunks = '1\r\na\r\n'.repeat(20_000);
    const head = 'PUT /files HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nConnection: close\r\n';
    const text = await exchangeRaw(
      test.frontend.port,
      `${head}Transfer-Encoding: chunked\r\n\r\n`,
      `${chunks}0\r\n\r\n`,
    );
    assert.match(text, /^HTTP\/1.1 200 /);
    assert.equal(responder.calls[0]?.body.toString(), 'a'.repeat(20_000));
  });

  for (const [what, chunk] of [
    ['a chunk of no size', '-1\r\na\r\n'],
    ['bare line feeds', '1\na\n'],
  ] as const) {
    it(`answers 400 INVALID_REQUEST to a body with ${what}`, async () => {
      const head = 'PUT /files HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n';
      const text = await exchangeRaw(test.frontend.port, head, chunk);
      assert.match(text, /^HTTP\/1.1 400 /);
      assert.equal((JSON.parse(text.slice(text.indexOf('{'))) as { code: string }).code, 'INVALID_REQUEST');
      assert.equal(responder.calls.length, 0);
    });
  }
});
