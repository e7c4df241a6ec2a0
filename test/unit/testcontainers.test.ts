import assert from 'node:assert/strict';
import {
  buildContainer,
  rabbitContainer,
  redisContainer,
  type ContainerRequest,
} from '../helpers/servers/containers.ts';

/** What testcontainers is going to ask of the engine; it keeps this to itself. */
interface Request {
  readonly imageName: { readonly string: string };
  readonly exposedPorts: readonly unknown[];
  readonly waitStrategy: { readonly constructor: { readonly name: string }; readonly message?: RegExp };
  readonly startupTimeoutMs: number;
  readonly createOpts: { readonly Cmd?: readonly string[] };
}

async function requestOf(request: ContainerRequest): Promise<Request> {
  return (await buildContainer(request)) as unknown as Request;
}

describe('test/helpers/servers/containers', function () {
  this.timeout(20_000); // testcontainers takes a second to load

  it('asks for RabbitMQ 4 with its AMQP port, and waits for the line that says it is up', async () => {
    const request = await requestOf(rabbitContainer);
    assert.equal(request.imageName.string, 'rabbitmq:4');
    assert.deepEqual(request.exposedPorts, [5672]);
    assert.equal(request.waitStrategy.constructor.name, 'LogWaitStrategy');
    assert.ok(
      request.waitStrategy.message?.test('2026-01-01 [info] <0.1.0> Server startup complete; 3 plugins started.'),
    );
    assert.equal(request.createOpts.Cmd, undefined);
  });

  it('asks for Redis 8 with an append-only file', async () => {
    const request = await requestOf(redisContainer);
    assert.equal(request.imageName.string, 'redis:8');
    assert.deepEqual(request.exposedPorts, [6379]);
    assert.ok(request.waitStrategy.message?.test('1:M 01 Jan 2026 00:00:00.000 * Ready to accept connections tcp'));
    assert.deepEqual(request.createOpts.Cmd, ['redis-server', '--appendonly', 'yes']);
  });
});
