import assert from 'node:assert/strict';
import { request } from 'node:http';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';
import { Crc32 } from '../crc32.ts';
import { rangeOf } from '../range.ts';

describe('bundles/stream', () => {
  describe('over HTTP', () => {
    let cluster: EmbeddedCluster;
    let url: string;
    before(async function () {
      this.timeout(60_000);
      cluster = await openEmbedded();
      await cluster.deploy('bundles/stream');
      url = `${cluster.httpUrl}/stream`;
    });
    after(() => cluster.close());

    it('hashes the files of a form, however long', async () => {
      const long = new Uint8Array(3_000_000).map((_value, index) => (index * 7) & 255);
      const form = new FormData();
      form.append('note', 'two files');
      form.append('a', new Blob([long]), 'long.bin');
      form.append('b', new Blob(['hello']), 'short.txt');
      const response = await fetch(`${url}/uploads`, { method: 'POST', body: form });
      assert.deepEqual(await response.json(), [
        { name: 'long.bin', bytes: long.length, crc32: crc32(long).toString(16).padStart(8, '0') },
        { name: 'short.txt', bytes: 5, crc32: '3610a686' },
      ]);
    });

    it('answers 400 for a form that is none', async () => {
      const headers = { 'content-type': 'multipart/form-data; boundary=x' };
      const response = await fetch(`${url}/uploads`, { method: 'POST', headers, body: '--x\r\nhalf a part' });
      assert.equal(response.status, 400);
      assert.equal(((await response.json()) as { code: string }).code, 'INVALID_REQUEST');
    });

    it('exports every row, and counts them in a trailer', async () => {
      const [text, trailers] = await new Promise<[string, NodeJS.Dict<string>]>((resolve, reject) => {
        const req = request(`${url}/report.csv?rows=25001`, (res) => {
          let body = '';
          res.setEncoding('utf8').on('data', (piece: string) => (body += piece));
          res.on('end', () => resolve([body, res.trailers]));
        });
        req.on('error', reject).end();
      });
      const lines = text.split('\r\n');
      assert.deepEqual([lines.length, lines[0], lines[25_001]], [25_003, 'number,square', '25001,625050001']);
      assert.deepEqual(trailers, { 'x-rows': '25001' });
    });

    it('tells the time, numbered on from the event that was seen last', async () => {
      const stop = new AbortController();
      const headers = { 'last-event-id': '41' };
      const response = await fetch(`${url}/clock?everyMs=10`, { headers, signal: stop.signal });
      assert.equal(response.headers.get('content-type'), 'text/event-stream');
      assert.equal(response.headers.get('cache-control'), 'no-store');
      let text = '';
      for await (const piece of response.body ?? []) {
        text += Buffer.from(piece).toString();
        if (text.includes('id: 43\n')) break;
      }
      stop.abort();
      assert.match(text, /^retry: 1000\n\nevent: tick\nid: 42\ndata: \{"time":"[^"]+"\}\n\n/);
    });

    for (const [range, status, contentRange, body] of [
      ['bytes=26-51', 206, 'bytes 26-51/26000000', 'abcdefghijklmnopqrstuvwxyz'],
      ['bytes=-3', 206, 'bytes 25999997-25999999/26000000', 'xyz'],
      ['bytes=25999999-', 206, 'bytes 25999999-25999999/26000000', 'z'],
      ['bytes=26000000-', 416, 'bytes */26000000', ''],
    ] as const) {
      it(`answers ${range} with ${status}`, async () => {
        const response = await fetch(`${url}/file`, { headers: { range } });
        assert.deepEqual([response.status, response.headers.get('content-range')], [status, contentRange]);
        assert.equal(await response.text(), body);
      });
    }
  });

  it('Crc32 is that of zlib, in whatever pieces the bytes come', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), (pieces) => {
        const crc = new Crc32();
        for (const piece of pieces) crc.update(piece);
        assert.equal(parseInt(crc.hex(), 16), crc32(Buffer.concat(pieces)));
      }),
    );
  });

  it('rangeOf gives what lies within, or nothing that could be sent', () => {
    const number = fc.integer({ min: 0, max: 300 });
    fc.assert(
      fc.property(number, number, fc.integer({ min: 1, max: 200 }), (first, last, length) => {
        const range = rangeOf(`bytes=${first}-${last}`, length);
        if (last < first) assert.equal(range, undefined);
        else if (first >= length) assert.equal(range, 'unsatisfiable');
        else assert.deepEqual(range, { start: first, end: Math.min(last + 1, length) });
      }),
    );
    assert.equal(rangeOf(undefined, 10), undefined);
    assert.equal(rangeOf('bytes=0-1,3-4', 10), undefined);
    assert.equal(rangeOf('bytes=-', 10), undefined);
    assert.equal(rangeOf('bytes=-0', 10), 'unsatisfiable');
  });
});
