import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type Channel, type ChannelModel } from 'amqplib';
import { newId } from '../../core/id.ts';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { JS_ISOLATES } from '../contract/isolate-harness.ts';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { usePrivateRedis } from '../helpers/servers/redis.ts';
import { until } from '../helpers/until.ts';
import { openTestRunner, type CallOutcome, type TestRunner } from '../unit/runner/test-runner.ts';

const source = `
const outcome = (promise) => promise.then((value) => ({ value }), ({ code, message }) => ({ code, message }));
exports.redis = async (event, { services: { cache } }) => {
  const results = [];
  for (const [method, ...args] of event.json()) results.push(await outcome(Promise.resolve().then(() => cache[method](...args))));
  return results;
};
exports.http = async (event, { services: { crm } }) => {
  const [path, init] = event.json();
  return await outcome(crm.fetch(path, init).then(async (response) => ({ status: response.status, url: response.url, text: await response.text() })));
};
exports.amqp = async (event, { services: { bus } }) => await outcome(bus.publish(...event.json()));
exports.context = (event, context) => JSON.stringify([context.secrets, Object.keys(context.services), Object.keys(context.services.crm), context.config]);
`;
const OPERATIONS = ['redis', 'http', 'amqp', 'context'];
/** Must be found nowhere but in the secrets' files and on the wire to its server. */
const CREDENTIAL = `Bearer ${newId()}`;

for (const [name, openIsolate] of Object.entries(JS_ISOLATES))
  describe(`services redis, http and amqp in ${name}`, function () {
    this.timeout(60_000);
    const redis = usePrivateRedis();
    const rabbit = useRabbit();
    const exchange = `test.${newId()}`;
    let folder: string;
    let isolate: IsolateKind;
    let server: Server;
    let received: { readonly url: string; readonly authorization: string | undefined; readonly body: string }[] = [];
    let connection: ChannelModel;
    let channel: Channel;
    let test: TestRunner;

    before(async () => {
      isolate = openIsolate();
      server = createServer((request, response) => {
        const chunks: Buffer[] = [];
        request.on('data', (chunk: Buffer) => chunks.push(chunk));
        request.on('end', () => {
          const url = request.url ?? '';
          received.push({ url, authorization: request.headers.authorization, body: Buffer.concat(chunks).toString() });
          if (url.endsWith('/away')) response.writeHead(302, { location: 'http://elsewhere.test/' }).end();
          else if (url.endsWith('/big')) response.end(Buffer.alloc(9 * 2 ** 20));
          else response.end('hello');
        });
      });
      await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
      connection = await connect(rabbit.url());
      channel = await connection.createChannel();
      await channel.assertExchange(exchange, 'direct', { autoDelete: true });
      await channel.assertQueue(exchange, { exclusive: true });
      await channel.bindQueue(exchange, exchange, 'key');
      folder = mkdtempSync(join(tmpdir(), 'funcatron-secrets-'));
      mkdirSync(join(folder, 'shop'));
      writeFileSync(join(folder, 'shop', 'CACHE'), redis.server().url());
      writeFileSync(join(folder, 'BUS'), `${rabbit.url()}\n`);
      writeFileSync(join(folder, 'CRM'), `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`);
      writeFileSync(join(folder, 'CRM_TOKEN'), CREDENTIAL);
      writeFileSync(join(folder, 'OPEN'), 'for the func');
      test = await openTestRunner({
        operations: OPERATIONS.map((operationId) => ({ operationId })),
        isolate,
        source,
        config: { secretsDir: folder },
        manifest: {
          secrets: ['OPEN'],
          services: {
            cache: { type: 'redis', url: { secret: 'CACHE' } },
            crm: { type: 'http', baseUrl: { secret: 'CRM' }, headers: { authorization: { secret: 'CRM_TOKEN' } } },
            bus: { type: 'amqp', url: { secret: 'BUS' }, exchanges: [exchange, 'missing', ''] },
          },
        },
      });
    });
    after(async () => {
      await test?.close();
      await connection?.close();
      await isolate?.close?.();
      server?.close();
      server?.closeAllConnections();
      rmSync(folder, { recursive: true, force: true });
    });
    beforeEach(() => {
      received = [];
    });

    function callOf(operation: string, body: unknown, timeoutMs = 5_000): Promise<CallOutcome> {
      return test.call(OPERATIONS.indexOf(operation), { body: JSON.stringify(body), timeoutMs });
    }
    async function outcomeOf(operation: string, body: unknown): Promise<unknown> {
      return JSON.parse((await callOf(operation, body)).body) as unknown;
    }

    it('runs commands of Redis and gives their replies as JSON', async () => {
      const commands = [
        ['set', 'a', 'one', { ttlMs: 60_000 }],
        ['get', 'a'],
        ['incr', 'n', 2],
        ['expire', 'n', 1000],
        ['command', 'hset', 'h', 'f', 1],
        ['command', 'hgetall', 'h'],
        ['get', 'none'],
        ['del', 'a', 'n', 'h'],
      ];
      const values = ((await outcomeOf('redis', commands)) as { value: unknown }[]).map(({ value }) => value);
      assert.deepEqual(values, [undefined, 'one', 2, true, 1, { f: '1' }, null, 3]);
    });

    it('passes errors of Redis on, and refuses commands that would take the connection from other calls', async () => {
      const [wrong, ...refused] = (await outcomeOf('redis', [
        ['command', 'hget', 'x'],
        ['command', 'BLPOP', 'x', 0],
        ['command', 'subscribe', 'x'],
        ['command', 'select', 3],
        ['command', 'multi'],
        ['command', '__proto__'],
      ])) as { code: string; message: string }[];
      assert.deepEqual(
        [wrong?.code, wrong?.message],
        ['ERR', "service cache: ERR wrong number of arguments for 'hget' command"],
      );
      assert.ok(
        refused.every(({ code }) => code === 'INVALID_REQUEST'),
        JSON.stringify(refused),
      );
    });

    it('refuses a reply of Redis longer than 8 MiB while it arrives, and goes on', async () => {
      const long = [
        ['command', 'setrange', 'long', 20 * 2 ** 20, 'x'],
        ['get', 'long'],
        ['del', 'long'],
      ];
      const [, reply] = (await outcomeOf('redis', long)) as { code?: string }[];
      assert.equal(reply?.code, 'RESPONSE_TOO_LARGE');
      await until('it is connected again', async () => {
        const [set] = (await outcomeOf('redis', [['set', 'a', '1']])) as { code?: string }[];
        return set?.code === undefined;
      });
    });

    it('says SERVICE_DOWN while Redis is away, and comes back', async () => {
      await redis.server().stop();
      const [down] = (await outcomeOf('redis', [['get', 'a']])) as { code?: string; message: string }[];
      assert.equal(down?.code, 'SERVICE_DOWN');
      assert.doesNotMatch(down?.message ?? '', new RegExp(String(redis.server().port)));
      await redis.server().start();
      await until(
        'it is back',
        async () => ((await outcomeOf('redis', [['get', 'a']])) as { code?: string }[])[0]?.code === undefined,
      );
    });

    it('gives up on a Redis that is silent before the call has no time left', async () => {
      redis.server().pause();
      const { body } = await callOf('redis', [['get', 'a']], 1_000);
      redis.server().resume();
      assert.equal((JSON.parse(body) as { code: string }[])[0]?.code, 'SERVICE_BUSY');
    });

    it('sends requests below the base URL, with the credentials the func never sees', async () => {
      const init = { method: 'POST', body: 'x', headers: { authorization: 'mine' } };
      assert.deepEqual(await outcomeOf('http', ['/orders?a=1', init]), {
        value: { status: 200, url: '/orders?a=1', text: 'hello' },
      });
      assert.deepEqual(received, [{ url: '/v1/orders?a=1', authorization: CREDENTIAL, body: 'x' }]);
    });

    it('sends nothing to another origin or above the base URL, and follows no redirect', async () => {
      const paths = [
        '../admin',
        '//elsewhere.test/',
        'http://elsewhere.test/',
        '/..%2fadmin',
        '\\\\elsewhere.test',
        '/a/../../../admin',
      ];
      for (const path of paths) {
        const outcome = (await outcomeOf('http', [path])) as { code?: string; value?: { status: number } };
        const sent = received.map(({ url }) => url);
        assert.ok(
          outcome.code === 'INVALID_REQUEST' || outcome.value?.status === 200,
          `${path}: ${JSON.stringify(outcome)}`,
        );
        assert.ok(
          sent.every((url) => url.startsWith('/v1/')),
          `${path}: ${sent.join()}`,
        );
      }
      assert.ok(received.every(({ url }) => url.startsWith('/v1/')));
      const { value } = (await outcomeOf('http', ['/away'])) as { value: { status: number } };
      assert.equal(value.status, 302);
    });

    it('refuses a response longer than 8 MiB', async () => {
      const { code } = (await outcomeOf('http', ['/big'])) as { code: string };
      assert.equal(code, 'RESPONSE_TOO_LARGE');
    });

    it('publishes messages and waits for the confirm', async () => {
      const options = { headers: { tenant: 'a' }, type: 'order.placed', expirationMs: 60_000 };
      assert.deepEqual(await outcomeOf('amqp', [exchange, 'key', { id: 1 }, options]), {});
      const message = await channel.get(exchange, { noAck: true });
      if (message === false) throw new assert.AssertionError({ message: 'there is no message' });
      const { contentType, type, expiration, headers, deliveryMode } = message.properties;
      assert.equal(message.content.toString(), '{"id":1}');
      assert.deepEqual([contentType, type, expiration, deliveryMode], ['application/json', 'order.placed', '60000', 2]);
      assert.equal(headers?.['tenant'], 'a');
    });

    it('says when no queue takes a message, when there is no such exchange, and when it may not publish there', async () => {
      const codes: unknown[] = [];
      for (const args of [
        [exchange, 'other', 'x'],
        ['missing', 'key', 'x'],
        ['amq.topic', 'key', 'x'],
        [exchange, 'key', 'x'],
      ]) {
        codes.push(((await outcomeOf('amqp', args)) as { code?: string }).code);
      }
      assert.deepEqual(codes, ['UNROUTABLE', 'AMQP_404', 'FORBIDDEN', undefined]);
      assert.deepEqual(await outcomeOf('amqp', [exchange, 'other', 'x', { mandatory: false }]), {});
    });

    it('gives a func the secrets its manifest lists, and none that only a service uses', async () => {
      const { body } = await callOf('context', null);
      assert.deepEqual(JSON.parse(body), [{ OPEN: 'for the func' }, ['cache', 'crm', 'bus'], [], {}]);
    });

    it('leaves no secret in logs, reports or records', async () => {
      await test.report();
      const said = JSON.stringify([test.lines, test.reports, test.bundle.record]);
      for (const secret of [CREDENTIAL, 'for the func', redis.server().url(), rabbit.url()]) {
        assert.ok(!said.includes(secret), `${secret} was said`);
      }
    });
  });
