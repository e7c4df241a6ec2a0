/** Room for the headers of a message that is published again; the client library encodes at most 64 KiB of them, and ours are added. */
const MAX_CARRIED_BYTES = 32 * 1024;

/**
 * The headers of a message that is published again: a retry, a dead letter. What the broker would act on stays behind.
 * `CC` and `BCC` would route every copy once more to the queues they name
 * (https://www.rabbitmq.com/docs/sender-selected), without end when one of them is where the message came from; the
 * broker's own counts would make it look as if it had gone in circles. What is over 32 KiB stays behind too, and
 * `fn-headers-dropped` says how many.
 */
export function carriedHeaders(headers: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const carried: Record<string, unknown> = {};
  let bytes = 0;
  let dropped = 0;
  for (const [name, value] of Object.entries(headers)) {
    if (isForBroker(name)) continue;
    const size = Buffer.byteLength(JSON.stringify([name, value]) ?? '');
    if (bytes + size > MAX_CARRIED_BYTES) {
      dropped++;
      continue;
    }
    bytes += size;
    carried[name] = value;
  }
  return dropped === 0 ? carried : { ...carried, 'fn-headers-dropped': dropped };
}

function isForBroker(name: string): boolean {
  return name === 'CC' || name === 'BCC' || name === 'x-delivery-count' || name.includes('death');
}
