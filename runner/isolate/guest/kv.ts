import { begin } from './operations.ts';

/** `context.services.<name>` of type kv: JSON values, kept by the runner's store under the bundle's name. */
const { parse, stringify } = JSON;

export class Kv {
  readonly #service: string;
  constructor(service: string) {
    this.#service = service;
  }

  async get(key: string): Promise<unknown> {
    const { result } = await begin('kv.get', { service: this.#service, key: keyOf(key) }).outcome;
    return typeof result['value'] === 'string' ? parse(result['value']) : undefined;
  }

  async set(key: string, value: unknown, options: { ttlMs?: number } = {}): Promise<void> {
    const text = stringify(value);
    if (text === undefined) throw new TypeError(`kv.set(${stringify(key)}): a ${typeof value} is not JSON`);
    await begin('kv.set', { service: this.#service, key: keyOf(key), value: text, ttlMs: ttlOf(options) }).outcome;
  }

  async delete(key: string): Promise<boolean> {
    const { result } = await begin('kv.delete', { service: this.#service, key: keyOf(key) }).outcome;
    return result['deleted'] === true;
  }

  async incr(key: string, by = 1, options: { ttlMs?: number } = {}): Promise<number> {
    if (!Number.isSafeInteger(by)) throw new TypeError(`kv.incr(${stringify(key)}): ${String(by)} is not an integer`);
    const args = { service: this.#service, key: keyOf(key), by, ttlMs: ttlOf(options) };
    const { result } = await begin('kv.increment', args).outcome;
    return Number(result['value']);
  }
}

function keyOf(key: unknown): string {
  if (typeof key !== 'string' || key === '') throw new TypeError('a kv key must be a string that is not empty');
  return key;
}

function ttlOf({ ttlMs }: { ttlMs?: number }): number | undefined {
  if (ttlMs === undefined) return undefined;
  if (!Number.isFinite(ttlMs) || ttlMs <= 0)
    throw new TypeError(`ttlMs must be a positive number, not ${String(ttlMs)}`);
  return Math.ceil(ttlMs);
}
