/** Version 00 with ids that are not all zeros; a later version may append fields. W3C Trace Context §3.2. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/;

/**
 * The `traceparent` a func gets: the client's where it sent a valid one, else a new trace whose id is the call's own
 * (a UUIDv7 is as random as a trace id has to be), so that a trace is found by its call.
 */
export function traceparentOf(header: string | undefined, callId: string): string {
  if (header !== undefined && TRACEPARENT.test(header)) return header;
  const hex = callId.replaceAll('-', '');
  return `00-${hex}-${hex.slice(16)}-01`;
}
