import { convertIndexedToRgb, decode, type DecodedPng, encode } from 'fast-png';
import { type Func, reply } from 'funcatron';
import { type Pixels, shrink } from './shrink.ts';

/** POST /thumb/?size=64 with a PNG; bytes in, bytes out. */
export const makeThumb: Func<Uint8Array> = (event, context) => {
  let image: DecodedPng;
  try {
    image = decode(event.body);
  } catch (error) {
    return reply(422, { title: 'not a PNG', detail: error instanceof Error ? error.message : String(error) });
  }
  if (image.palette === undefined && image.depth !== 8) {
    return reply(422, { title: 'a channel must have 8 bits', detail: `it has ${image.depth}` });
  }
  const small = shrink(pixelsOf(image), event.query['size']);
  context.log.debug('made a thumb', { from: `${image.width}x${image.height}`, to: `${small.width}x${small.height}` });
  return reply(200, encode({ ...small, depth: 8 }), { 'content-type': 'image/png' });
};

/** Mixing colours needs colours: the mean of two palette numbers would be a third colour. */
function pixelsOf(image: DecodedPng): Pixels {
  const { width, height, palette } = image;
  if (palette === undefined) return { width, height, channels: image.channels, data: image.data };
  return { width, height, channels: palette[0]?.length ?? 3, data: convertIndexedToRgb(image) };
}
