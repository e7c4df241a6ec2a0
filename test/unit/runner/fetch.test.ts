import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as fc from 'fast-check';
import { fetchPolicyOf, isPublicAddress, pinAddress } from '../../../runner/services/address-policy.ts';
import { createFetcher, type Fetcher } from '../../../runner/services/fetch.ts';

describe('runner/services/fetch', () => {
  let server: Server;
  let port: number;
  let answer: (req: IncomingMessage, res: ServerResponse) => void;
  let fetcher: Fetcher;

  beforeEach(async () => {
    server = createServer((req, res) => answer(req, res));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ({ port } = server.address() as AddressInfo);
    const hosts = [`127.0.0.1:${port}`, `localhost:${port}`];
    fetcher = createFetcher({ allowed: hosts, own: [] }, hosts);
  });
  afterEach(async () => {
    await fetcher.close();
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  function run(
    args: Readonly<Record<string, unknown>>,
    bytes = Buffer.alloc(0),
    signal = new AbortController().signal,
  ) {
    return fetcher.run({ name: 'fetch', args: { url: `http://127.0.0.1:${port}/`, ...args }, bytes }, signal);
  }

  it('sends method, headers and body, without the headers of one connection', async () => {
    let got: IncomingMessage['headers'] = {};
    answer = (req, res) => {
      got = req.headers;
      res.writeHead(201, { 'x-answer': 'yes' });
      req.pipe(res);
    };
    const headers = [
      ['x-one', '1'],
      ['X-One', '2'],
      ['connection', 'close, x-hop'],
      ['x-hop', 'no'],
      ['host', 'elsewhere'],
      ['transfer-encoding', 'chunked'],
    ];
    const { result, bytes } = await run({ method: 'post', headers }, Buffer.from('payload'));
    assert.equal(result['status'], 201);
    assert.equal(bytes?.toString(), 'payload');
    assert.ok((result['headers'] as string[][]).some(([name, value]) => name === 'x-answer' && value === 'yes'));
    assert.equal(got['x-one'], '1, 2');
    assert.equal(got['x-hop'], undefined);
    assert.equal(got.host, `127.0.0.1:${port}`);
    assert.equal(got['content-length'], '7');
  });

  it('keeps credentials to the origin they were meant for', async () => {
    const got: (string | undefined)[] = [];
    answer = (req, res) => {
      got.push(req.headers.authorization);
      if (req.url === '/end') return void res.end();
      return void res.writeHead(302, { location: `http://localhost:${port}/end` }).end();
    };
    await run({ headers: [['Authorization', 'Bearer x']] });
    assert.deepEqual(got, ['Bearer x', undefined]);
  });

  it('follows redirects as browsers do, and no more than five', async () => {
    const paths: string[] = [];
    answer = (req, res) => {
      paths.push(`${req.method} ${req.url}`);
      if (req.url === '/to') return void res.writeHead(303, { location: '/end' }).end();
      if (req.url === '/loop') return void res.writeHead(307, { location: '/loop' }).end();
      return void res.end('there');
    };
    const url = `http://127.0.0.1:${port}/to`;
    const { result, bytes } = await run({ url, method: 'POST' }, Buffer.from('x'));
    assert.equal(bytes?.toString(), 'there');
    assert.equal(result['redirected'], true);
    assert.equal(result['url'], `http://127.0.0.1:${port}/end`);
    assert.deepEqual(paths, ['POST /to', 'GET /end']);
    await assert.rejects(run({ url: `http://127.0.0.1:${port}/loop` }), /more than 5 times/);
    const manual = await run({ url, redirect: 'manual' });
    assert.equal(manual.result['status'], 303);
    await assert.rejects(run({ url, redirect: 'error' }), /redirects/);
  });

  it('is FORBIDDEN for a redirect to a private address', async () => {
    answer = (_req, res) => void res.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end();
    await assert.rejects(run({}), { code: 'FORBIDDEN' });
  });

  it('is RESPONSE_TOO_LARGE above 8 MiB', async () => {
    answer = (_req, res) => void res.end(Buffer.alloc(8 * 1024 * 1024 + 1));
    await assert.rejects(run({}), { code: 'RESPONSE_TOO_LARGE' });
  });

  it('is TIMEOUT when it takes longer than the call has left', async () => {
    answer = () => undefined;
    await assert.rejects(run({ timeoutMs: 50 }), { code: 'TIMEOUT' });
  });

  it('stops when its call is aborted', async () => {
    const abort = new AbortController();
    answer = () => abort.abort();
    await assert.rejects(run({}, Buffer.alloc(0), abort.signal));
  });

  it('is SERVICE_BUSY when 64 are under way', async () => {
    answer = () => undefined;
    const abort = new AbortController();
    const all = Array.from({ length: 64 }, () => run({}, Buffer.alloc(0), abort.signal));
    await assert.rejects(run({}), { code: 'SERVICE_BUSY' });
    abort.abort();
    await Promise.allSettled(all);
  });

  it('takes nothing but http and https', async () => {
    for (const url of ['file:///etc/passwd', 'ftp://example.com/', 'nonsense', 'data:text/plain,a']) {
      await assert.rejects(run({ url }), { code: 'INVALID_REQUEST' }, url);
    }
  });

  it('says why a host cannot be reached', async () => {
    const closed = createServer();
    closed.listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port: free } = closed.address() as AddressInfo;
    closed.close();
    await once(closed, 'close');
    const host = `127.0.0.1:${free}`;
    const other = createFetcher({ allowed: [host], own: [] }, [host]);
    const request = { name: 'fetch', args: { url: `http://${host}/` }, bytes: Buffer.alloc(0) };
    await assert.rejects(other.run(request, new AbortController().signal), { code: 'ECONNREFUSED' });
    await other.close();
  });
});

describe('runner/services/address-policy', () => {
  const nobody = { allowed: [], own: [] };

  it('takes the public internet only', () => {
    for (const address of ['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111', '172.15.0.1', '172.32.0.1', '100.128.0.1']) {
      assert.equal(isPublicAddress(address), true, address);
    }
    const deniedV4 = `127.0.0.1 127.9.9.9 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254
      100.64.0.1 100.100.100.200 192.0.0.192 168.63.129.16 198.18.0.1 224.0.0.1 255.255.255.255 203.0.113.7`;
    const deniedV6 = `::1 :: fe80::1 fc00::1 fd00:ec2::254 ff02::1 ::ffff:8.8.8.8 ::ffff:127.0.0.1 64:ff9b::7f00:1
      2002:7f00:1:: 2001::1 2001:db8::1 ::127.0.0.1`;
    const denied = [...`${deniedV4} ${deniedV6}`.split(/\s+/), 'localhost', ''];
    for (const address of denied) assert.equal(isPublicAddress(address), false, address);
  });

  it('never takes an IPv4 address written as IPv6', () => {
    fc.assert(fc.property(fc.ipV4(), (address) => !isPublicAddress(`::ffff:${address}`)));
  });

  it('is FORBIDDEN for loopback however it is written, and for names that lead there', async () => {
    const hosts = [
      '127.0.0.1',
      '127.1',
      '0x7f.1',
      '2130706433',
      '0177.0.0.1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      'localhost',
    ];
    for (const host of hosts) {
      await assert.rejects(pinAddress(new URL(`http://${host}/`), nobody, [host]), { code: 'FORBIDDEN' }, host);
    }
  });

  it('lets a bundle reach what its manifest names and the operator allows, and nothing that only one of them does', async () => {
    const url = new URL('http://127.0.0.1:9200/');
    const policy = { allowed: ['127.0.0.1:9200'], own: ['127.0.0.1:9200'] };
    assert.equal((await pinAddress(url, policy, ['127.0.0.1'])).address, '127.0.0.1');
    await assert.rejects(pinAddress(url, policy, []), { code: 'FORBIDDEN' });
    await assert.rejects(pinAddress(url, nobody, ['127.0.0.1:9200']), { code: 'FORBIDDEN' });
    await assert.rejects(pinAddress(new URL('http://127.0.0.1:9201/'), policy, ['127.0.0.1']), { code: 'FORBIDDEN' });
  });

  it('never lets a bundle reach our own broker and store, public as they may be', async () => {
    const policy = fetchPolicyOf({ fetchAllow: '', brokerUrl: 'amqp://u:p@8.8.8.8', storeUrl: 'redis://8.8.4.4:7000' });
    await assert.rejects(pinAddress(new URL('http://8.8.8.8:5672/'), policy, []), { code: 'FORBIDDEN' });
    await assert.rejects(pinAddress(new URL('http://8.8.4.4:7000/'), policy, []), { code: 'FORBIDDEN' });
    assert.equal((await pinAddress(new URL('http://8.8.8.8/'), policy, [])).address, '8.8.8.8');
  });
});
