import { createServer, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import assert from 'node:assert/strict';
import { UnreadAnswers } from '../../../frontend/unread-answers.ts';
import { until } from '../../helpers/until.ts';

describe('frontend/unread-answers', () => {
  it('ends the connection of who does not read, but not while another answer is due before', async () => {
    const unread = new UnreadAnswers(1);
    const responses: ServerResponse[] = [];
    const closed: ServerResponse[] = [];
    const server = createServer((_req, res) => {
      responses.push(res);
      res.once('close', () => closed.push(res));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    client.on('error', () => {}); // it is the server that hangs up
    client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2));
    await until('both came', () => responses.length === 2);
    const [first, second] = responses as [ServerResponse, ServerResponse];
    let looks = 0;
    second.end('late');
    const behind = unread.add(second);
    const expire = behind.expire.bind(behind);
    behind.expire = () => {
      looks++;
      expire();
    };
    await until('it was looked at often', () => looks > 4);
    assert.equal(closed.length, 0);
    unread.remove(behind);
    first.end(Buffer.alloc(32 * 1024 * 1024));
    unread.add(first);
    await until('it is gone', () => closed.includes(first));
    client.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
});
