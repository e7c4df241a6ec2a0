import type { ErrorCode } from '../../core/errors.ts';
import type { CallMeta, ReplyMeta } from '../../core/wire/envelope.ts';
import type { AnswerBody } from './answer-body.ts';
import type { CallBody } from './call-body.ts';

/** A call as a program is told of it. */
export interface ProgramCall {
  /** UUIDv7, as text. */
  readonly id: string;
  readonly operationId: string;
  readonly meta: CallMeta;
  /** Exactly as the client sends it: a view into the envelope, or on its way. */
  readonly body: Buffer | CallBody;
  /**
   * Which answers may leave as the program writes them: `long` ones, or `all`, because their operation is direct. Absent:
   * none, whoever waits takes them whole.
   */
  readonly streams?: 'long' | 'all' | undefined;
  /** Unix ms on this machine; `Infinity` where there is none. */
  readonly deadline: number;
}

/** What a program answered. */
export interface ProgramReply {
  readonly status: number;
  readonly headers: NonNullable<ReplyMeta['headers']>;
  readonly body: Buffer | AnswerBody;
}

/** Why it did not; the message goes to the client, so it holds nothing of what the program said. */
export interface ProgramFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Answers calls by means of programs. */
export interface Driver {
  /** The process a worker is made of; this one where each call has a process of its own. */
  readonly pid: number;
  /** Bytes on their way to the program. */
  readonly backlogBytes: number;
  /**
   * Settles with the program's answer, whose body may still be on its way, or never, when the whole worker goes with the
   * program: its exit then answers the call.
   */
  run(call: ProgramCall): Promise<ProgramReply | ProgramFailure>;
  /** Nobody waits for this call any more: it was cancelled, and still answers, or it is overdue, and was answered TIMEOUT. */
  abandon(call: ProgramCall, why: 'cancelled' | 'overdue'): void;
  /** Settles, once, with why no call can be run any more. */
  readonly ended: Promise<{ readonly reason: 'closed' | 'killed' | 'crashed'; readonly detail: string }>;
  /** Lets the programs end, and kills them after `ms`. */
  close(ms: number): Promise<void>;
  /** Kills the programs, now. */
  kill(detail: string): void;
}

const PLAIN_PATH = /^\/[!-~]*$/;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** RFC 9110 §7.6.1, and what is made anew from the body: these end where the client's connection does. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/**
 * The request headers of a call, with `host` left out. Those of a call from the queue were written by a stranger and
 * checked by nobody: what could end a header line is a blank here, and a name that is none is left out.
 */
export function headersOf(meta: CallMeta): [name: string, value: string][] {
  const headers: [string, string][] = [];
  for (const [name, value] of Object.entries(meta.headers ?? {})) {
    if (!TOKEN.test(name) || LEFT_OUT.has(name.toLowerCase()) || /^fn_/i.test(name)) continue;
    for (const each of Array.isArray(value) ? (value as unknown[]) : [value]) headers.push([name, flat(each)]);
  }
  return headers;
}

/** The method; POST for a call that came with none, from a queue. */
export function methodOf({ method }: CallMeta): string {
  return method !== undefined && TOKEN.test(method) ? method : 'POST';
}

/** How long the client says its body is. */
export function declaredBytes({ headers }: CallMeta): number | undefined {
  const length = headers?.['content-length'];
  return typeof length === 'string' && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}

/** The host the client asked, with its port. */
export function hostOf({ headers }: CallMeta): string {
  const host = headers?.['host'];
  return typeof host === 'string' && /^[\w.:[\]-]+$/.test(host) ? host : 'localhost';
}

/** Path and query. The query is made of the parameters as the document types them, defaults included. */
export function targetOf({ path = '/', query = {} }: CallMeta): string {
  const asked = PLAIN_PATH.test(path) ? path : `/${path.replace(/^\//, '')}`.replaceAll(/[^!-~]/g, encodeChar);
  const parameters = Object.entries(query);
  if (parameters.length === 0) return asked;
  const search = new URLSearchParams();
  for (const [name, value] of parameters) {
    for (const each of Array.isArray(value) ? (value as unknown[]) : [value]) search.append(name, textOf(each));
  }
  return `${asked}?${search.toString()}`;
}

function encodeChar(char: string): string {
  return Buffer.from(char).reduce((text, byte) => `${text}%${byte.toString(16).toUpperCase().padStart(2, '0')}`, '');
}

function flat(value: unknown): string {
  const text = textOf(value);
  // oxlint-disable-next-line no-control-regex -- these are the characters that end a line or a string
  return /[\u0000\r\n]/.test(text) ? text.replaceAll(/[\u0000\r\n]+/g, ' ') : text;
}

/** Strings as they are, everything else as JSON. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
}
