import { headersOf, hostOf, methodOf, type ProgramCall, targetOf } from './program-call.ts';

/**
 * The head of a call as Fn's http format has it: an HTTP/1.1 request with the client's headers and
 * `Fn_deadline` (RFC 3339), `Fn_request_url`, `Fn_call_id`, `Fn_method`; `Content-Length` always.
 * `Fn_operation` is ours: a bundle has several operations, and calls from a queue have no path that tells them apart.
 * Source: fnproject/fn, docs/developers/function-format.md, "HTTP I/O Format".
 */
export function requestHead(call: ProgramCall): Buffer {
  const { meta, body } = call;
  const method = methodOf(meta);
  const target = targetOf(meta);
  const host = hostOf(meta);
  let head = `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\n`;
  for (const [name, value] of headersOf(meta)) head += `${canonical(name)}: ${value}\r\n`;
  if (Number.isFinite(call.deadline)) head += `Fn_deadline: ${new Date(call.deadline).toISOString()}\r\n`;
  head += `Fn_request_url: http://${host}${target}\r\nFn_call_id: ${call.id}\r\nFn_method: ${method}\r\n`;
  head += `Fn_operation: ${call.operationId}\r\nContent-Length: ${body.length}\r\n\r\n`;
  // Node reads header bytes as latin1; written so, they leave as they came.
  return Buffer.from(head, 'latin1');
}

/** Names that were written so before: clients send the same ones over and over. Forgotten when strangers send too many. */
const canonicalNames = new Map<string, string>();
const MAX_NAMES = 1_000;

/** As Go writes header names, which is how Fn's programs know them: `content-type` → `Content-Type`. */
function canonical(name: string): string {
  let written = canonicalNames.get(name);
  if (written === undefined) {
    written = name.toLowerCase().replaceAll(/(^|-)[a-z]/g, (start) => start.toUpperCase());
    if (canonicalNames.size >= MAX_NAMES) canonicalNames.clear();
    canonicalNames.set(name, written);
  }
  return written;
}
