import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { OPERATION_BYTES, WORKER_OPERATION_BYTES, WORKER_OPERATIONS } from '../../../runner/isolate/bridge.ts';
import { Channel, FrameKind } from '../../../runner/isolate/channel.ts';
import type { GuestResult, WorkerEvents } from '../../../runner/isolate/isolate.ts';
import { Operations } from '../../../runner/isolate/operations.ts';
import { until } from '../../helpers/until.ts';

/** `{name, args}` of operation `id`, as a worker sends it. */
function operation(id: number, bytes = Buffer.alloc(0)): Buffer {
  const json = Buffer.from('{"name":"wait","args":{}}');
  const head = Buffer.alloc(8);
  head.writeUInt32BE(id, 0);
  head.writeUInt32BE(json.length, 4);
  return Buffer.concat([head, json, bytes]);
}

describe('runner/isolate/operations', () => {
  let server: Server;
  let near: Socket;
  let far: Socket;
  let channel: Channel;
  /** Ids of the operations that failed, with their codes, as the worker reads them. */
  let failures: [id: number, code: string][];

  beforeEach(async () => {
    server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    near = connect((server.address() as AddressInfo).port, '127.0.0.1');
    [far] = (await once(server, 'connection')) as [Socket];
    channel = new Channel(near, 1024, { onFrame: () => undefined, onEnd: () => undefined });
    failures = [];
  });

  afterEach(() => {
    channel.destroy();
    far.destroy();
    server.close();
  });

  function read(): Channel {
    far.resume();
    return new Channel(far, 2 * OPERATION_BYTES, {
      onFrame(kind, payload) {
        assert.equal(kind, FrameKind.opResult);
        const json = payload.toString('utf8', 9, 9 + payload.readUInt32BE(5));
        if (payload[4] === 0) failures.push([payload.readUInt32BE(0), (JSON.parse(json) as { code: string }).code]);
      },
      onEnd: () => undefined,
    });
  }

  it('counts what a worker has given up until the runner is done with it', async () => {
    const ends: (() => void)[] = [];
    const onOperation: WorkerEvents['onOperation'] = async () => {
      await new Promise<void>((resolve) => ends.push(resolve));
      return { result: {} };
    };
    const operations = new Operations(channel, { onOperation });
    read();
    for (let id = 1; id <= WORKER_OPERATIONS + 1; id++) {
      operations.begin(operation(id));
      operations.abandon(operation(id).subarray(0, 4));
    }
    await until('the last is refused', () => failures.length === 1);
    assert.deepEqual(failures, [[WORKER_OPERATIONS + 1, 'SERVICE_BUSY']]);
    assert.equal(ends.length, WORKER_OPERATIONS);
    for (const end of ends) end();
    await until('there is room again', () => {
      operations.begin(operation(ends.length + WORKER_OPERATIONS));
      return ends.length > WORKER_OPERATIONS;
    });
  });

  it('keeps no more results than 64 MiB for a worker that reads none', async () => {
    const bytes = Buffer.alloc(OPERATION_BYTES);
    const onOperation = (): Promise<GuestResult> => Promise.resolve({ result: {}, bytes });
    far.pause();
    const operations = new Operations(channel, { onOperation });
    for (let id = 1; id <= 20; id++) {
      operations.begin(operation(id));
      await new Promise(setImmediate);
    }
    assert.ok(channel.backlogBytes < 80 * 1024 * 1024, `${channel.backlogBytes} bytes wait`);
    assert.equal(read().backlogBytes, 0);
    await until('the rest has failed', () => failures.length > 0 && channel.backlogBytes === 0);
    assert.ok(failures.every(([, code]) => code === 'SERVICE_BUSY'));
  });

  it('refuses what would make a worker’s operations longer together than their bound', async () => {
    const operations = new Operations(channel, { onOperation: () => new Promise(() => undefined) });
    read();
    const most = Math.floor(WORKER_OPERATION_BYTES / OPERATION_BYTES);
    for (let id = 1; id <= most; id++) operations.begin(operation(id, Buffer.alloc(OPERATION_BYTES)));
    await until('the last is refused', () => failures.length === 1);
    assert.deepEqual(failures, [[most, 'SERVICE_BUSY']]);
    operations.begin(operation(most + 1));
    await new Promise(setImmediate);
    assert.equal(failures.length, 1);
  });

  it('throws, which ends the worker, when it asks on and on and reads nothing', async () => {
    const bytes = Buffer.alloc(OPERATION_BYTES);
    far.pause();
    for (let count = 0; count < 20; count++) channel.send(FrameKind.calls, bytes);
    await new Promise(setImmediate);
    const operations = new Operations(channel, { onOperation: () => Promise.resolve({ result: {} }) });
    assert.throws(() => operations.begin(operation(1)), /reads no results/);
  });
});
