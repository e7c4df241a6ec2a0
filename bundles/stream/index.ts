import { type Func, reply, sse, type SseEvent } from 'funcatron';
import { Crc32 } from './crc32.ts';
import { rangeOf } from './range.ts';

/** POST /uploads with a form: each file is read as it comes, and none is ever here as a whole. */
export const hashUploads: Func = async (event) => {
  const hashed: object[] = [];
  for await (const part of event.parts()) {
    if (part.filename === undefined) continue;
    const crc = new Crc32();
    let bytes = 0;
    for await (const piece of part.stream()) {
      crc.update(piece);
      bytes += piece.length;
    }
    hashed.push({ name: part.filename, bytes, crc32: crc.hex() });
  }
  return hashed;
};

/** GET /report.csv: rows are made as fast as the client takes them. */
export const exportReport: Func = (event, context) =>
  reply(200, makeRows(event.query['rows'], context.signal), {
    'content-type': 'text/csv; charset=utf-8',
    'content-disposition': 'attachment; filename="report.csv"',
  });

async function* makeRows(count: number, signal: AbortSignal): AsyncGenerator<string, object> {
  yield 'number,square\r\n';
  // Rows in bundles: a piece costs some microseconds, however short it is.
  for (let first = 1; first <= count && !signal.aborted; first += 100) {
    let rows = '';
    for (let row = first; row < first + 100 && row <= count; row++) rows += `${row},${row * row}\r\n`;
    yield rows;
  }
  return { 'x-rows': String(count) };
}

/** GET /clock: an `EventSource` that lost its connection goes on where it was. */
export const watchClock: Func = (event, context) => {
  const last: number = event.headers['last-event-id'] === undefined ? 0 : Number(event.headers['last-event-id']);
  return sse(tick(last, event.query['everyMs'], context.signal), { retryMs: 1000 });
};

async function* tick(last: number, everyMs: number, signal: AbortSignal): AsyncGenerator<SseEvent> {
  for (let id = last + 1; !signal.aborted; id++) {
    yield { event: 'tick', id, data: { time: new Date().toISOString() } };
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

const LINE = 'abcdefghijklmnopqrstuvwxyz';
const FILE_BYTES = LINE.length * 1_000_000;

/** GET /file: what `Range` asks for is the func's to answer. */
export const getFile: Func = (event) => {
  const range = rangeOf(event.headers['range'], FILE_BYTES);
  if (range === 'unsatisfiable') return reply(416, undefined, { 'content-range': `bytes */${FILE_BYTES}` });
  const headers = { 'content-type': 'text/plain', 'accept-ranges': 'bytes' };
  if (range === undefined) return reply(200, letters(0, FILE_BYTES), headers);
  const { start, end } = range;
  const contentRange = `bytes ${start}-${end - 1}/${FILE_BYTES}`;
  return reply(206, letters(start, end), { ...headers, 'content-range': contentRange });
};

function* letters(start: number, end: number): Generator<string, undefined> {
  const block = LINE.repeat(1000);
  for (let at = start; at < end;) {
    const from = at % LINE.length;
    const piece = block.slice(from, from + end - at);
    yield piece;
    at += piece.length;
  }
}
