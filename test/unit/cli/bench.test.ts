import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createProgram } from '../../../cli/program.ts';
import { type CapturedTerminal, captureTerminal } from './capture-terminal.ts';

describe('cli/bench', () => {
  let server: Server;
  let url: string;
  const { exitCode } = process;

  before(async () => {
    server = createServer((req, res) => {
      res.statusCode = req.url === '/bad' ? 500 : 200;
      res.end(`${req.method} ${req.headers['content-type']} ${String(req.headers['x-a'])}`);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  afterEach(() => {
    process.exitCode = exitCode;
  });

  async function bench(args: readonly string[], isInteractive = false): Promise<CapturedTerminal> {
    const terminal = captureTerminal(isInteractive);
    await createProgram(terminal).parseAsync(['bench', ...args], { from: 'user' });
    return terminal;
  }

  it('posts a body as JSON, and prints figures as JSON', async () => {
    const { outLines, saidLines } = await bench([url, '-d', '0.2', '-c', '3', '-b', '{}', '-H', 'x-a: b', '--json']);
    const report = JSON.parse(outLines.join('\n')) as Record<string, unknown>;
    assert.deepEqual([report['method'], report['connections'], report['errors']], ['POST', 3, {}]);
    assert.equal(report['bytes'], Number(report['answers']) * 'POST application/json b'.length);
    assert.deepEqual(saidLines, []);
    assert.equal(process.exitCode, 0);
  });

  it('ends with 1 when a call failed', async () => {
    const { outLines } = await bench([`${url}/bad`, '-d', '0.1']);
    assert.match(outLines.join('\n'), /\n {2}500 +\d+\n/);
    assert.equal(process.exitCode, 1);
  });

  it('says each second how it goes to who reads along', async () => {
    const { saidLines } = await bench([url, '-d', '1.3', '-r', '20'], true);
    assert.equal(saidLines.length, 1);
    assert.match(saidLines[0] ?? '', /^1 of 1\.3 s {2}\d+ calls\/s {2}p99 [\d.]+ ms$/);
  });

  for (const [what, args] of [
    ['a URL that is none', ['localhost:8080']],
    ['no connections', ['http://a', '-c', '0']],
    ['half a connection', ['http://a', '-c', '0.5']],
    ['a rate that is none', ['http://a', '-r', 'fast']],
    ['a header without a value', ['http://a', '-H', 'x-a']],
    ['a day and more', ['http://a', '-d', '100000']],
  ] as const) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(bench(args), { code: 'commander.invalidArgument' });
    });
  }

  it('refuses a body from a file that is not there', async () => {
    await assert.rejects(bench([url, '-b', '@/nowhere/at/all']), { code: 'INVALID_CONFIG' });
  });
});
