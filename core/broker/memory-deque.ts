const LEAST_SLOTS = 16;

/** A queue open at both ends, every operation O(1): a ring of 2^n slots that doubles when full. */
export class Deque<T> {
  #slots: (T | undefined)[] = Array.from({ length: LEAST_SLOTS });
  #head = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The item `shift` would give. */
  peek(): T | undefined {
    return this.#slots[this.#head];
  }

  push(item: T): void {
    this.#makeRoom();
    this.#slots[(this.#head + this.#length) & (this.#slots.length - 1)] = item;
    this.#length += 1;
  }

  unshift(item: T): void {
    this.#makeRoom();
    this.#head = (this.#head - 1) & (this.#slots.length - 1);
    this.#slots[this.#head] = item;
    this.#length += 1;
  }

  shift(): T | undefined {
    if (this.#length === 0) return undefined;
    const item = this.#slots[this.#head];
    this.#slots[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#slots.length - 1);
    this.#length -= 1;
    // A backlog that is gone gives its memory back.
    if (this.#length === 0 && this.#slots.length > 1_024) this.clear();
    return item;
  }

  clear(): void {
    this.#slots = Array.from({ length: LEAST_SLOTS });
    this.#head = 0;
    this.#length = 0;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let i = 0; i < this.#length; i++) yield this.#slots[(this.#head + i) & (this.#slots.length - 1)] as T;
  }

  #makeRoom(): void {
    if (this.#length < this.#slots.length) return;
    const slots: (T | undefined)[] = Array.from({ length: this.#slots.length * 2 });
    let i = 0;
    for (const item of this) slots[i++] = item;
    this.#slots = slots;
    this.#head = 0;
  }
}
