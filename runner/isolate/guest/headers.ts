/** `Headers`. Source: https://fetch.spec.whatwg.org/#headers-class */

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// oxlint-disable-next-line no-control-regex -- what a field value may not hold, RFC 9110 §5.5
const BAD_VALUE = /[\u0000\r\n]|[^\u0000-\u00ff]/;

export type HeaderPairs = [name: string, value: string][];
export type HeadersInit = Headers | Record<string, string> | Iterable<readonly [string, string]>;

export class Headers {
  /** Values by lower-case name, in the order they came. */
  readonly #values = new Map<string, string[]>();

  constructor(init?: HeadersInit) {
    if (init === undefined || init === null) return;
    const isList = typeof (init as { [Symbol.iterator]?: unknown })[Symbol.iterator] === 'function';
    const pairs = isList
      ? (init as Iterable<readonly [string, string]>)
      : Object.entries(init as Record<string, string>);
    for (const [name, value] of pairs) this.append(name, value);
  }

  append(name: string, value: string): void {
    const key = keyOf(name);
    const values = this.#values.get(key);
    if (values === undefined) this.#values.set(key, [valueOf(key, value)]);
    else values.push(valueOf(key, value));
  }
  set(name: string, value: string): void {
    const key = keyOf(name);
    this.#values.set(key, [valueOf(key, value)]);
  }
  get(name: string): string | null {
    return this.#values.get(keyOf(name))?.join(', ') ?? null;
  }
  getSetCookie(): string[] {
    return [...(this.#values.get('set-cookie') ?? [])];
  }
  has(name: string): boolean {
    return this.#values.has(keyOf(name));
  }
  delete(name: string): void {
    this.#values.delete(keyOf(name));
  }
  forEach(callback: (value: string, name: string, headers: Headers) => void, thisArg?: unknown): void {
    for (const [name, value] of this) Reflect.apply(callback, thisArg, [value, name, this]);
  }
  *entries(): IterableIterator<[string, string]> {
    for (const name of [...this.#values.keys()].sort()) {
      const values = this.#values.get(name) ?? [];
      if (name === 'set-cookie') for (const value of values) yield [name, value];
      else yield [name, values.join(', ')];
    }
  }
  *keys(): IterableIterator<string> {
    for (const [name] of this.entries()) yield name;
  }
  *values(): IterableIterator<string> {
    for (const [, value] of this.entries()) yield value;
  }
  [Symbol.iterator](): IterableIterator<[string, string]> {
    return this.entries();
  }
}

function keyOf(name: unknown): string {
  const text = String(name);
  if (!TOKEN.test(text)) throw new TypeError(`"${text}" is not a header name`);
  return text.toLowerCase();
}

function valueOf(name: string, value: unknown): string {
  const text = String(value).replaceAll(/^[\t\n\r ]+|[\t\n\r ]+$/g, '');
  if (BAD_VALUE.test(text)) throw new TypeError(`header ${name} holds a character that headers cannot hold`);
  return text;
}
