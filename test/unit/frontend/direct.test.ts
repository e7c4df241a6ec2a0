import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  createServer as createHttpServer,
  get,
  request,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http';
import { connect, createServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import { directPath, encodeDirectHead, encodeLength } from '../../../core/wire/direct.ts';
import { CallFlag, encodeReplies, Envelope, ReplyFlag } from '../../../core/wire/envelope.ts';
import { callQueue } from '../../../core/wire/topology.ts';
import { allowTime } from '../../../frontend/body.ts';
import { createFrontendServer } from '../../../frontend/server.ts';
import { testBundle } from '../../helpers/live-bundle.ts';
import { openResponder, type Answer, type Responder, type SeenCall } from '../../helpers/responder.ts';
import { freePort } from '../../helpers/servers/port.ts';
import { openTestFrontend, type TestFrontend } from '../../helpers/test-frontend.ts';
import { until } from '../../helpers/until.ts';

const BINARY = { required: false, content: { '*/*': {} } };
const BUNDLE = testBundle({
  operations: [
    { operationId: 'bring', method: 'POST', path: '/bring', direct: true, timeoutMs: 20_000, body: BINARY },
    { operationId: 'fetch', method: 'GET', path: '/fetch', timeoutMs: 20_000 },
  ],
});
const TOKEN = 'T'.repeat(43);

/** What a runner answers over the direct path: the head, and bytes behind it. */
function headOf(call: SeenCall, flags: number, body: Buffer | string): Buffer {
  const record = { id: call.idBytes, status: 200, flags, waitUs: 0, funcUs: 0, meta: '', body };
  return encodeDirectHead(new Envelope(encodeReplies([record])));
}

describe('frontend/direct', function () {
  this.timeout(20_000);
  let test: TestFrontend;
  let responder: Responder;
  let servers: (Server | NetServer)[];
  let sockets: Set<Socket>;
  /** What the runners on the queue answer. */
  let answer: (call: SeenCall) => Answer | undefined;

  before(async () => {
    test = await openTestFrontend({ bundles: [BUNDLE] });
    responder = await openResponder(test.broker, callQueue('orders', 'aaaaaaaaaaaa'), (call) => answer(call));
  });
  after(() => test.close());
  beforeEach(() => {
    servers = [];
    sockets = new Set();
  });
  afterEach(() => {
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
  });

  async function listen(server: Server | NetServer): Promise<string> {
    servers.push(server);
    server.on('connection', (socket: Socket) => sockets.add(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** A runner's listener that says Continue itself when `listener` wants. */
  async function listener(onRequest: RequestListener): Promise<string> {
    const server = createHttpServer(onRequest);
    server.on('checkContinue', onRequest);
    return await listen(server);
  }

  function offer(
    call: SeenCall,
    origin: string,
    flags: number = ReplyFlag.accepted,
    path = directPath(call.idBytes),
  ): Answer {
    return { flags, body: JSON.stringify({ url: origin + path, token: TOKEN }) };
  }

  async function bring(body = 'a body'): Promise<{ status: number; code: string | undefined; hint: unknown }> {
    const response = await test.fetch('/bring', { method: 'POST', body });
    const text = await response.text();
    const problem = text.startsWith('{') ? (JSON.parse(text) as { code?: string; hint?: string }) : {};
    return { status: response.status, code: problem.code, hint: problem.hint };
  }

  /** Takes a body whole and answers with its length. */
  function takes(call: () => SeenCall): RequestListener {
    return (req, res) => {
      res.writeContinue();
      let bytes = 0;
      req.on('data', (piece: Buffer) => (bytes += piece.length));
      req.on('end', () => res.end(headOf(call(), ReplyFlag.json, String(bytes))));
    };
  }

  describe('when a runner cannot be reached', () => {
    /** The first runner is out of reach in some way, the second one well; how many calls the queue gave them. */
    async function secondAsked(first: string): Promise<number> {
      let last: SeenCall | undefined;
      const well = await listener(takes(() => last ?? assert.fail()));
      let calls = 0;
      answer = (call) => {
        last = call;
        return offer(call, calls++ === 0 ? first : well);
      };
      const { status } = await bring();
      assert.equal(status, 200);
      return calls;
    }

    it('asks another one: nobody listens', async () => {
      assert.equal(await secondAsked(`http://127.0.0.1:${await freePort()}`), 2);
    });

    it('asks another one after 2 s: nothing answers to a connection', async () => {
      // The kernel answers no SYN for a socket whose line of connections nobody takes is full: as behind a firewall.
      const code =
        'import socket,sys\ns=socket.socket()\ns.bind(("127.0.0.1",0))\ns.listen(0)\nprint(s.getsockname()[1],flush=True)\nsys.stdin.read()';
      const deaf = spawn('python3', ['-c', code], { stdio: ['pipe', 'pipe', 'inherit'] });
      try {
        const port = Number(String(await new Promise((resolve) => deaf.stdout.once('data', resolve))));
        for (let count = 0; count < 3; count++) sockets.add(connect(port, '127.0.0.1').on('error', () => undefined));
        await new Promise((resolve) => setTimeout(resolve, 100));
        const startedAt = performance.now();
        assert.equal(await secondAsked(`http://127.0.0.1:${port}`), 2);
        assert.ok(performance.now() - startedAt > 1_900);
      } finally {
        deaf.kill();
      }
    });

    it('asks another one: another server answers there', async () => {
      const other = await listener((_req, res) => void res.writeHead(404).end('no such page'));
      assert.equal(await secondAsked(other), 2);
    });

    it('answers RUNNER_LOST when another server there takes every body', async () => {
      const other = createHttpServer((req, res) => {
        req.resume();
        res.end('thanks');
      });
      const origin = await listen(other);
      let last: SeenCall | undefined;
      answer = (call) => {
        last = call;
        return offer(call, origin);
      };
      // It said Continue: who knows what it did.
      assert.equal((await bring()).code, 'RUNNER_LOST');
      assert.ok(last);
    });

    it('asks again when the queue gives the call to the same runner, and connects to it once', async () => {
      let connections = 0;
      const other = await listener((_req, res) => {
        connections++;
        res.writeHead(404).end();
      });
      let last: SeenCall | undefined;
      const well = await listener(takes(() => last ?? assert.fail()));
      let calls = 0;
      answer = (call) => {
        last = call;
        return offer(call, calls++ < 4 ? other : well);
      };
      assert.equal((await bring()).status, 200);
      assert.deepEqual([calls, connections], [5, 1]);
    });

    it('answers 502 RUNNER_UNREACHABLE with a hint when the second one cannot be reached either', async () => {
      const [one, other] = [await freePort(), await freePort()];
      let calls = 0;
      answer = (call) => offer(call, `http://127.0.0.1:${calls++ === 0 ? one : other}`);
      const { status, code, hint } = await bring();
      assert.deepEqual({ status, code, calls }, { status: 502, code: 'RUNNER_UNREACHABLE', calls: 2 });
      assert.match(String(hint), /doctor.*--direct-url/);
    });

    it('answers 502 RUNNER_UNREACHABLE when there is but one, and asks it a few times at most', async () => {
      const port = await freePort();
      let calls = 0;
      answer = (call) => {
        calls++;
        return offer(call, `http://127.0.0.1:${port}`);
      };
      assert.equal((await bring()).code, 'RUNNER_UNREACHABLE');
      assert.ok(calls <= 8, `${calls} calls`);
    });

    it('answers RUNNER_LOST when it is gone before it said whether it takes the call', async () => {
      const silent = createServer((socket) => socket.once('data', () => socket.destroy()));
      const origin = await listen(silent);
      let calls = 0;
      answer = (call) => {
        calls++;
        return offer(call, origin);
      };
      assert.equal((await bring()).code, 'RUNNER_LOST');
      assert.equal(calls, 1);
    });

    it('answers RUNNER_LOST when the runner with an answer cannot be reached: the func has run', async () => {
      const port = await freePort();
      answer = (call) => offer(call, `http://127.0.0.1:${port}`, ReplyFlag.direct);
      const response = await test.fetch('/fetch');
      assert.equal(response.status, 502);
      assert.equal(((await response.json()) as { code: string }).code, 'RUNNER_LOST');
    });
  });

  it('tries again when a kept connection has been closed meanwhile', async () => {
    let last: SeenCall | undefined;
    const server = createHttpServer({ keepAliveTimeout: 60_000 });
    const takesIt = takes(() => last ?? assert.fail());
    server.on('checkContinue', takesIt);
    const origin = await listen(server);
    answer = (call) => {
      last = call;
      return offer(call, origin);
    };
    assert.equal((await bring()).status, 200);
    await until('the connection is kept', () => sockets.size > 0);
    // It goes with the next request, before that has been read: as when both sides are right about 30 s.
    for (const socket of sockets) {
      socket.removeAllListeners('data');
      socket.once('readable', () => socket.resetAndDestroy());
    }
    for (let count = 0; count < 3; count++) assert.equal((await bring()).status, 200);
    assert.ok(sockets.size > 1);
  });

  describe('with an offer from a forged runner', () => {
    const EVIL = [
      ['another path', (call: SeenCall) => offer(call, 'http://127.0.0.1:1', ReplyFlag.accepted, '/latest/meta-data/')],
      [
        'the path of another call',
        (call: SeenCall) => offer(call, 'http://127.0.0.1:1', 4, directPath(Buffer.alloc(16))),
      ],
      [
        'a query behind the path',
        (call: SeenCall) => offer(call, 'http://127.0.0.1:1', 8, `/x?${directPath(call.idBytes)}`),
      ],
      ['another scheme', (call: SeenCall) => offer(call, 'file://')],
      ['credentials', (call: SeenCall) => offer(call, 'http://user:secret@127.0.0.1:1')],
      ['no JSON', () => ({ flags: ReplyFlag.accepted, body: 'http://127.0.0.1:1' })],
      [
        'no token',
        (call: SeenCall) => ({
          flags: 8,
          body: JSON.stringify({ url: `http://127.0.0.1:1${directPath(call.idBytes)}` }),
        }),
      ],
    ] as const;
    for (const [what, make] of EVIL) {
      it(`goes nowhere: ${what}`, async () => {
        answer = make;
        assert.equal((await bring()).code, 'INVALID_RESPONSE');
      });
    }

    it('does not go on where the answer names another place', async () => {
      let last: SeenCall | undefined;
      const origin = await listener((req, res) => {
        res.writeContinue();
        req.resume();
        const call = last ?? assert.fail();
        res.end(
          headOf(
            call,
            ReplyFlag.accepted,
            JSON.stringify({ url: `http://127.0.0.1:1${directPath(call.idBytes)}`, token: TOKEN }),
          ),
        );
      });
      answer = (call) => {
        last = call;
        return offer(call, origin);
      };
      assert.equal((await bring()).code, 'RUNNER_LOST');
    });
  });

  describe('with an answer whose body is not what its head says', () => {
    for (const [what, bytes, body] of [
      ['longer', 4, 'four and more HTTP/1.1 200 OK\r\n\r\n'],
      ['shorter', 40, 'four'],
    ] as const) {
      it(`ends the connection: ${what}`, async () => {
        let last: SeenCall | undefined;
        const origin = await listener((_req, res) => {
          res.end(
            Buffer.concat([headOf(last ?? assert.fail(), ReplyFlag.direct, encodeLength(bytes)), Buffer.from(body)]),
          );
        });
        answer = (call) => {
          last = call;
          return offer(call, origin, ReplyFlag.direct);
        };
        const res = await new Promise<IncomingMessage>((resolve, reject) => {
          get(`${test.frontend.url}/fetch`, { agent: false }, resolve).on('error', reject);
        });
        let text = '';
        res.on('data', (piece) => (text += String(piece)));
        res.on('error', () => undefined);
        await new Promise((resolve) => res.on('close', resolve));
        assert.equal(res.readableEnded, false);
        assert.doesNotMatch(text, /HTTP/);
      });
    }
  });

  it('sends every call with the flag that its answer may be fetched', async () => {
    answer = () => ({});
    await test.fetch('/fetch');
    assert.equal((responder.calls.at(-1)?.flags ?? 0) & CallFlag.fetches, CallFlag.fetches);
  });
});

describe('frontend/server: how long a request may take', () => {
  let server: Server;
  let port: number;
  let isLong: boolean;

  beforeEach(async () => {
    isLong = false;
    server = createFrontendServer({
      maxHeaderBytes: 8_192,
      requestMs: 300,
      headersMs: 300,
      checkMs: 50,
      own: (_req, res) => void res.end(),
      calls(req, res) {
        if (isLong) allowTime(req);
        let bytes = 0;
        req.on('data', (piece: Buffer) => (bytes += piece.length));
        req.on('end', () => res.end(String(bytes)));
      },
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ({ port } = server.address() as AddressInfo);
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('answers 408 to a body that trickles in', async () => {
    const socket = connect(port, '127.0.0.1');
    socket.write('POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n');
    const trickle = setInterval(() => socket.write('x'), 20);
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (piece) => (text += String(piece)));
    await new Promise((resolve) => socket.on('close', resolve));
    clearInterval(trickle);
    assert.match(text, /^HTTP\/1\.1 408 /);
  });

  it('lets the body of a direct operation take longer', async () => {
    isLong = true;
    const req = request({ port, host: '127.0.0.1', method: 'POST', agent: false });
    const answered = new Promise<IncomingMessage>((resolve, reject) => req.on('response', resolve).on('error', reject));
    const end = performance.now() + 900;
    while (performance.now() < end) {
      req.write('x');
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    req.end();
    const res = await answered;
    assert.equal(res.statusCode, 200);
    res.resume();
  });
});
