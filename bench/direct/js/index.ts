import { type Func, reply } from 'funcatron';
import { Checksum } from './checksum.ts';

export const hash: Func = async (event) => {
  const checksum = new Checksum();
  for await (const piece of event.stream()) checksum.add(piece);
  return { bytes: checksum.bytes, hash: checksum.value };
};

export const pass: Func = (event) => reply(200, event.stream(), { 'content-type': 'application/octet-stream' });
