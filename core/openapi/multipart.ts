import { MalformedText } from './raw-pairs.ts';

/** One part of a `multipart/form-data` body; `bytes` is a view of the body. RFC 7578. */
export interface Part {
  readonly name: string;
  readonly filename: string | undefined;
  /** As sent; `text/plain` where the part says nothing. */
  readonly contentType: string;
  readonly bytes: Buffer;
}

const MAX_PARTS = 1_000;
const MAX_PART_HEAD_BYTES = 8_192;
const CRLF = '\r\n';

/** Takes a body apart without copying it. Throws `MalformedText` for what is not multipart, and past 1 000 parts. */
export function parseMultipart(body: Buffer, boundary: string): readonly Part[] {
  const delimiter = Buffer.from(`--${boundary}`);
  const parts: Part[] = [];
  let at = body.indexOf(delimiter);
  if (at !== 0 && !(at > 1 && endsLine(body, at))) throw new MalformedText('does not begin with its boundary');
  for (;;) {
    at += delimiter.length;
    if (body.toString('latin1', at, at + 2) === '--') return parts;
    const lineEnd = body.indexOf(CRLF, at);
    if (lineEnd < 0 || body.toString('latin1', at, lineEnd).trim() !== '') {
      throw new MalformedText('has a boundary that is not followed by a line break');
    }
    if (parts.length >= MAX_PARTS) throw new MalformedText(`has more than ${MAX_PARTS} parts`);
    const end = body.indexOf(Buffer.concat([Buffer.from(CRLF), delimiter]), lineEnd);
    if (end < 0) throw new MalformedText('has no closing boundary');
    parts.push(parsePart(body, lineEnd + CRLF.length, Math.max(end, lineEnd + CRLF.length)));
    at = end + CRLF.length;
  }
}

function endsLine(body: Buffer, at: number): boolean {
  return body[at - 1] === 0x0a && body[at - 2] === 0x0d;
}

function parsePart(body: Buffer, start: number, end: number): Part {
  const headEnd = body.indexOf('\r\n\r\n', start - CRLF.length);
  if (headEnd < 0 || headEnd > end || headEnd - start > MAX_PART_HEAD_BYTES) {
    throw new MalformedText('has a part without a blank line after its headers');
  }
  let name: string | undefined;
  let filename: string | undefined;
  let contentType = 'text/plain';
  for (const line of body.toString('utf8', start, Math.max(start, headEnd)).split(CRLF)) {
    const colon = line.indexOf(':');
    const header = line.slice(0, Math.max(0, colon)).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (header === 'content-type') contentType = value.toLowerCase();
    if (header !== 'content-disposition') continue;
    name = attribute(value, 'name');
    filename = attribute(value, 'filename');
  }
  if (name === undefined) throw new MalformedText('has a part without a name');
  return { name, filename, contentType, bytes: body.subarray(headEnd + 4, end) };
}

/** A quoted or bare attribute of `Content-Disposition`; browsers write a quote inside one as `%22`. */
function attribute(value: string, name: string): string | undefined {
  for (const piece of value.split(';')) {
    const equals = piece.indexOf('=');
    if (equals < 0 || piece.slice(0, equals).trim().toLowerCase() !== name) continue;
    const text = piece.slice(equals + 1).trim();
    const bare = text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text;
    return bare.replaceAll('%22', '"').replaceAll(/%0d|%0a/gi, ' ');
  }
  return undefined;
}
