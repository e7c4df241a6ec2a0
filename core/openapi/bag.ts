/**
 * An object for names that clients choose: it inherits nothing, so that `constructor` is absent unless it was sent,
 * and `__proto__` is a name like any other. Unlike `Object.create(null)` it stays a fast object for V8.
 */
export interface Bag<T = unknown> {
  [name: string]: T;
}

// oxlint-disable-next-line func-names -- a constructor that is only ever reached through `createBag`
const BagConstructor = function Bag() {} as unknown as new () => Bag;
BagConstructor.prototype = Object.create(null);

export function createBag<T = unknown>(): Bag<T> {
  return new BagConstructor() as Bag<T>;
}
