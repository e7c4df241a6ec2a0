import type { IncomingMessage, ServerResponse } from 'node:http';
import type { WheelEntry } from '../core/deadline.ts';
import { SpentBuffers } from '../core/spent-buffers.ts';
import { AHEAD_BYTES } from './transfer.ts';
import type { UnreadAnswers } from './unread-answers.ts';

export interface PassOptions {
  /** Paused. */
  readonly content: IncomingMessage;
  /** What of it has been read already. */
  readonly first: Buffer;
  /** How long it is with that, where the head of the answer said so. */
  readonly bytes: number | undefined;
  readonly res: ServerResponse;
  readonly unread: UnreadAnswers;
  /** The whole body has been handed over. */
  readonly onEnd: () => void;
}

/**
 * Sends the body of an answer behind its head: `first`, then the content to its end, with its trailers. When it breaks
 * off, or is not as long as was said, the connection ends before the answer does: nobody takes a part for the whole, and
 * what is too much is not taken for the next answer. A client that reads nothing for long loses its connection.
 */
export function passOn({ content, first, bytes, res, unread, onEnd }: PassOptions): void {
  let left = bytes ?? Infinity;
  const spent = new SpentBuffers();
  let watch: WheelEntry | undefined;

  function send(piece: Buffer): void {
    left -= piece.length;
    if (left < 0) return cut();
    // What was written before: this piece is at the end of the turn, behind the length of its chunk.
    if (res.socket !== null) spent.free(res);
    res.write(piece);
    if (res.writableLength <= AHEAD_BYTES) return;
    content.pause();
    watch ??= unread.add(res);
  }
  function unwatch(): void {
    if (watch !== undefined) unread.remove(watch);
    watch = undefined;
  }
  function end(): void {
    if (bytes !== undefined && left !== 0) return cut();
    if (Object.keys(content.trailers).length > 0) res.addTrailers(content.trailers);
    res.end();
    if (res.writableLength > 0 && !res.destroyed) watch ??= unread.add(res);
    onEnd();
  }
  function cut(): void {
    content.destroy();
    // To HTTP/1.0 the end of the connection is the end of the body; a reset is not.
    if (res.req.httpVersionMinor === 0 && bytes === undefined) res.socket?.resetAndDestroy();
    res.destroy();
  }

  content.on('data', (piece: Buffer) => {
    send(piece);
    spent.add(piece);
  });
  content.on('end', end);
  content.on('close', () => {
    if (!content.readableEnded) cut();
  });
  content.on('error', () => undefined); // `close` follows.
  res.on('close', unwatch);
  res.on('drain', () => {
    unwatch();
    spent.free(res);
    content.resume();
  });
  if (first.length > 0) send(first);
  if (watch === undefined) content.resume();
}
