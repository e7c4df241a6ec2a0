/** Node's own, in place of the guest's. */
export const { DOMException } = globalThis;
