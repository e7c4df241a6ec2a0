/** Pixels in rows from the top, `channels` numbers each. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: ArrayLike<number>;
}

/** The picture with its longer side at most `size` pixels; each new pixel is the mean of the ones it stands for. */
export function shrink(image: Pixels, size: number): Pixels & { readonly data: Uint8Array } {
  const scale = Math.min(1, size / Math.max(image.width, image.height));
  const width = Math.max(1, Math.round(image.width * scale));
  const height = Math.max(1, Math.round(image.height * scale));
  const data = new Uint8Array(width * height * image.channels);
  for (let y = 0; y < height; y++) {
    const top = Math.floor((y * image.height) / height);
    const bottom = Math.max(top + 1, Math.floor(((y + 1) * image.height) / height));
    for (let x = 0; x < width; x++) {
      const left = Math.floor((x * image.width) / width);
      const right = Math.max(left + 1, Math.floor(((x + 1) * image.width) / width));
      for (let channel = 0; channel < image.channels; channel++) {
        data[(y * width + x) * image.channels + channel] = mean(image, { left, right, top, bottom, channel });
      }
    }
  }
  return { width, height, channels: image.channels, data };
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
  readonly channel: number;
}

function mean(image: Pixels, { left, right, top, bottom, channel }: Box): number {
  let sum = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) sum += image.data[(y * image.width + x) * image.channels + channel] ?? 0;
  }
  return Math.round(sum / ((right - left) * (bottom - top)));
}
