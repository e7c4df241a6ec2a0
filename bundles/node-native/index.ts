import { randomBytes, scrypt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { type Func, reply } from 'funcatron';

const compressed = promisify(gzip);
const derived = promisify(scrypt) as (password: string, salt: Buffer, bytes: number) => Promise<Buffer>;

export const compress: Func = async (event) =>
  reply(200, await compressed(event.bytes()), { 'content-type': 'application/gzip' });

export const hashPassword: Func<{ password: string }> = async (event, context) => {
  const salt = randomBytes(16);
  const hash = await derived(event.body.password, salt, 32);
  const count = await context.services.kv.incr('passwords');
  context.log.info('hashed a password', { count });
  return reply(201, { hash: `${salt.toString('hex')}:${hash.toString('hex')}`, count });
};

export const readText: Func = async (event, context) => {
  try {
    return await readFile(event.query['path'], 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    context.log.warn('cannot read a file', { path: event.query['path'], code });
    return reply(code === 'ERR_ACCESS_DENIED' ? 403 : 404, { code });
  }
};
