import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decode, encode } from 'fast-png';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';
import { shrink } from '../shrink.ts';

describe('bundles/thumb', () => {
  describe('over HTTP', () => {
    let cluster: EmbeddedCluster;
    before(async function () {
      this.timeout(60_000);
      cluster = await openEmbedded();
      await cluster.deploy('bundles/thumb');
    });
    after(() => cluster.close());

    function send(body: Uint8Array<ArrayBuffer>, query = '', type = 'image/png'): Promise<Response> {
      return fetch(`${cluster.httpUrl}/thumb/${query}`, { method: 'POST', headers: { 'content-type': type }, body });
    }

    /** Red on the left, blue on the right. */
    function halves(width: number, height: number): Uint8Array<ArrayBuffer> {
      const data = new Uint8Array(width * height * 3);
      for (let pixel = 0; pixel < width * height; pixel++) data[pixel * 3 + (pixel % width < width / 2 ? 0 : 2)] = 255;
      return new Uint8Array(encode({ width, height, channels: 3, depth: 8, data }));
    }

    it('makes a smaller PNG of a PNG', async () => {
      const response = await send(halves(200, 100), '?size=10');
      assert.equal(response.status, 200);
      assert.equal(response.headers.get('content-type'), 'image/png');
      const { width, height, data } = decode(await response.arrayBuffer());
      assert.deepEqual([width, height], [10, 5]);
      assert.deepEqual([...data.slice(0, 3), ...data.slice(27, 30)], [255, 0, 0, 0, 0, 255]);
    });

    it('answers 422 for bytes that are no PNG, and 415 for another content type', async () => {
      const broken = await send(new TextEncoder().encode('GIF89a'));
      assert.deepEqual([broken.status, ((await broken.json()) as { title: string }).title], [422, 'not a PNG']);
      assert.equal((await send(halves(2, 2), '', 'image/gif')).status, 415);
    });
  });

  describe('shrink', () => {
    it('keeps the proportions and never grows a picture', () => {
      const side = fc.integer({ min: 1, max: 60 });
      fc.assert(
        fc.property(side, side, fc.integer({ min: 1, max: 80 }), (width, height, size) => {
          const data = new Uint8Array(width * height).fill(7);
          const small = shrink({ width, height, channels: 1, data }, size);
          assert.ok(Math.max(small.width, small.height) <= Math.min(size, Math.max(width, height)));
          assert.ok(small.width >= 1 && small.height >= 1);
          // A picture of one colour stays one.
          assert.ok(small.data.every((value) => value === 7));
        }),
      );
    });

    it('gives each pixel the mean of the ones it stands for', () => {
      const { data } = shrink({ width: 2, height: 2, channels: 1, data: [0, 10, 20, 31] }, 1);
      assert.deepEqual([...data], [15]);
    });
  });
});
