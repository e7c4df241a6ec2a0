import { FuncatronError } from '../../core/errors.ts';
import type { Store } from '../../core/store/store.ts';
import { StoreKey } from '../../core/wire/control.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';

const MAX_KEY_CHARS = 512;
const MAX_VALUE_BYTES = 256 * 1024;

/**
 * `context.services.kv`: JSON text by key in the cluster's store, each bundle on its own. Values are JSON text.
 *
 * ```
 * kv.get       {key}                 → {value?: string}
 * kv.set       {key, value, ttlMs?}  → {}
 * kv.delete    {key}                 → {deleted: boolean}
 * kv.increment {key, by, ttlMs?}     → {value: number}
 * ```
 * @throws INVALID_REQUEST for a key, value or number out of bounds; STORE_DOWN
 */
export async function runKv(store: Store, bundle: string, request: GuestOperation): Promise<GuestResult> {
  const { args } = request;
  const key = StoreKey.kv(bundle, keyOf(args['key']));
  switch (request.name) {
    case 'kv.get': {
      const value = await store.get(key);
      return { result: value === undefined ? {} : { value: value.toString() } };
    }
    case 'kv.set': {
      await store.set(key, jsonOf(args['value']), ttlOf(args['ttlMs']));
      return { result: {} };
    }
    case 'kv.delete':
      return { result: { deleted: (await store.delete(key)) > 0 } };
    case 'kv.increment': {
      const by = args['by'];
      if (!Number.isSafeInteger(by)) throw refused(`cannot add ${String(by)}: it is no whole number`);
      return { result: { value: await store.increment(key, by as number, ttlOf(args['ttlMs']).ttlMs) } };
    }
    default:
      throw refused(`there is no operation ${request.name}`);
  }
}

function keyOf(key: unknown): string {
  if (typeof key === 'string' && key !== '' && key.length <= MAX_KEY_CHARS) return key;
  throw refused(`a key is a string of 1 to ${MAX_KEY_CHARS} characters`);
}

function jsonOf(json: unknown): string {
  if (typeof json !== 'string') throw refused('a value is anything JSON can say; undefined and functions are not');
  const bytes = Buffer.byteLength(json);
  if (bytes <= MAX_VALUE_BYTES) return json;
  throw refused(`the value has ${bytes} bytes of JSON, more than ${MAX_VALUE_BYTES}`);
}

function ttlOf(ttlMs: unknown): { readonly ttlMs?: number } {
  if (ttlMs === undefined || ttlMs === null) return {};
  if (typeof ttlMs === 'number' && Number.isSafeInteger(ttlMs) && ttlMs > 0) return { ttlMs };
  throw refused(`ttlMs is a whole number of milliseconds above 0, not ${JSON.stringify(ttlMs)}`);
}

function refused(message: string): FuncatronError {
  return new FuncatronError('INVALID_REQUEST', `kv: ${message}`);
}
