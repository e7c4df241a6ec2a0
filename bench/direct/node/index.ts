import { createHash } from 'node:crypto';
import { type Func, reply } from 'funcatron';

export const hash: Func = async (event) => {
  const sha = createHash('sha256');
  let bytes = 0;
  for await (const piece of event.stream()) {
    bytes += piece.length;
    sha.update(piece);
  }
  return { bytes, hash: sha.digest('hex') };
};

export const pass: Func = (event) => reply(200, event.stream(), { 'content-type': 'application/octet-stream' });
