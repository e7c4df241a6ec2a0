import type { Response } from 'express';
import type { LogLine } from '../core/wire/control.ts';
import type { Answer } from './endpoint.ts';

/** Proxies close a stream that says nothing for about a minute. */
const KEEP_ALIVE_MS = 15_000;

/** Sends what a handler answered; settles when it is sent. Server-sent events end when the signal aborts. */
export async function sendAnswer(res: Response, answer: Answer, signal: AbortSignal): Promise<void> {
  if ('follow' in answer) return sendEvents(res, answer, signal);
  res.status(answer.status).set('cache-control', 'no-store');
  if ('json' in answer) res.json(answer.json);
  else if ('bytes' in answer) sendBytes(res, answer.bytes, answer.contentType);
  else res.end();
}

function sendBytes(res: Response, bytes: Buffer, contentType: string | undefined): void {
  // What a bundle answers is not ours to be run in a browser that holds the token.
  res.setHeader('content-security-policy', "default-src 'none'; sandbox");
  res.setHeader('x-content-type-options', 'nosniff');
  // Not Express's `type`: it would add a charset to what the func said.
  if (contentType !== undefined) res.setHeader('content-type', contentType);
  res.setHeader('content-length', bytes.length);
  res.end(bytes);
}

/** One event a line. A reader that is too slow loses lines, and the next one it gets says how many. */
function sendEvents(
  res: Response,
  { past, follow }: Extract<Answer, { follow: unknown }>,
  signal: AbortSignal,
): Promise<void> {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
  res.write(past.map(eventOf).join('') || ': no lines yet\n\n');
  let dropped = 0;
  const stop = follow((line) => {
    if (res.writableNeedDrain) {
      dropped++;
      return;
    }
    res.write(eventOf(dropped === 0 ? line : { ...line, dropped: dropped + (line.dropped ?? 0) }));
    dropped = 0;
  });
  const keepAlive = setInterval(() => res.write(': still here\n\n'), KEEP_ALIVE_MS);
  return new Promise((resolve) => {
    const end = (): void => {
      stop();
      clearInterval(keepAlive);
      signal.removeEventListener('abort', end);
      res.end();
      resolve();
    };
    res.once('close', end);
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  });
}

function eventOf(line: LogLine): string {
  return `data: ${JSON.stringify(line)}\n\n`;
}
