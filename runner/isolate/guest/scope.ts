/** What a call has taken of services, given back when it ends: kept when the call succeeded, undone when it failed. */

/** A source of things a call takes and gives back: a transaction, a lock, a connection. */
export interface Vendor<Item> {
  /** Called once a call, when it first needs the item. */
  vend(callId: string, context: unknown): Item;
  /** Called once for each item, when its call has ended. On success the reply waits for it, and a rejection fails the call. */
  release(item: Item, success: boolean): unknown;
}

/** The takings of one call. Made when the first thing is taken: a call that takes nothing pays nothing. */
export class Scope {
  readonly #callId: string;
  readonly #taken = new Map<Vendor<unknown>, unknown>();
  #released: Promise<void> | undefined;

  constructor(callId: string) {
    this.#callId = callId;
  }

  /** The vendor's item for this call, whose context it may want to see. */
  vend<Item>(vendor: Vendor<Item>, context?: unknown): Item {
    const known = vendor as Vendor<unknown>;
    if (!this.#taken.has(known)) this.#taken.set(known, vendor.vend(this.#callId, context));
    return this.#taken.get(known) as Item;
  }

  get isReleased(): boolean {
    return this.#released !== undefined;
  }

  /**
   * Gives everything back, the latest first; the first call counts. After the first release that fails the others are
   * told of a failure. Rejects with what the first one failed of.
   */
  release(success: boolean): Promise<void> {
    this.#released ??= this.#release(success);
    return this.#released;
  }

  async #release(success: boolean): Promise<void> {
    const failures: unknown[] = [];
    for (const [vendor, item] of [...this.#taken].reverse()) {
      try {
        await vendor.release(item, success && failures.length === 0);
      } catch (thrown) {
        failures.push(thrown);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
