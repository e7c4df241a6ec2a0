import { copyOf, viewOf } from './bytes.ts';

/** UTF-8 both ways, and the `TextEncoder` and `TextDecoder` of the Encoding standard, as far as bundles need them. */

const fromCharCodes = String.fromCharCode;
const { apply } = Reflect;
const PIECE = 8192;

/** The UTF-8 bytes of a string; lone surrogates become U+FFFD. Source: https://encoding.spec.whatwg.org/#utf-8-encoder */
export function encodeUtf8(text: string): Uint8Array {
  const target = new Uint8Array(text.length * 3);
  const length = writeUtf8(text, target);
  return copyOf(new Uint8Array(target.buffer, 0, length));
}

function writeUtf8(text: string, target: Uint8Array): number {
  let at = 0;
  for (let index = 0; index < text.length; index++) {
    let code = text.charCodeAt(index);
    if (code < 0x80) {
      target[at++] = code;
      continue;
    }
    if (code < 0x800) {
      target[at++] = 0xc0 | (code >> 6);
      target[at++] = 0x80 | (code & 0x3f);
      continue;
    }
    if (code >= 0xd800 && code <= 0xdfff) {
      const next = code < 0xdc00 && index + 1 < text.length ? text.charCodeAt(index + 1) : 0;
      if (next >= 0xdc00 && next <= 0xdfff) {
        const point = 0x10000 + ((code - 0xd800) << 10) + (next - 0xdc00);
        index++;
        target[at++] = 0xf0 | (point >> 18);
        target[at++] = 0x80 | ((point >> 12) & 0x3f);
        target[at++] = 0x80 | ((point >> 6) & 0x3f);
        target[at++] = 0x80 | (point & 0x3f);
        continue;
      }
      code = 0xfffd;
    }
    target[at++] = 0xe0 | (code >> 12);
    target[at++] = 0x80 | ((code >> 6) & 0x3f);
    target[at++] = 0x80 | (code & 0x3f);
  }
  return at;
}

/** How many bytes of `bytes` a decoder has read, and what they say. */
interface Decoded {
  readonly text: string;
  /** Where an unfinished character at the end starts; the length when there is none. */
  readonly end: number;
}

/**
 * Decodes UTF-8; what is malformed becomes U+FFFD, one per maximal part.
 * Source: https://encoding.spec.whatwg.org/#utf-8-decoder
 * @throws TypeError when `fatal` and the bytes are malformed
 */
function readUtf8(bytes: Uint8Array, fatal: boolean, isMore: boolean): Decoded {
  let text = '';
  let units: number[] = [];
  let at = 0;
  while (at < bytes.length) {
    const lead = bytes[at] ?? 0;
    let point = lead;
    let length = 1;
    if (lead >= 0x80) {
      const more =
        lead >= 0xc2 && lead <= 0xdf ? 1 : lead >= 0xe0 && lead <= 0xef ? 2 : lead >= 0xf0 && lead <= 0xf4 ? 3 : 0;
      let lower = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
      let upper = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
      point = lead & (0x3f >> more);
      while (length <= more) {
        const next = bytes[at + length];
        if (next === undefined || next < lower || next > upper) break;
        point = (point << 6) | (next & 0x3f);
        lower = 0x80;
        upper = 0xbf;
        length++;
      }
      if (length <= more && isMore && at + length === bytes.length) break;
      if (length <= more || more === 0) {
        if (fatal) throw new TypeError('the encoded data was not valid utf-8');
        point = 0xfffd;
      }
    }
    if (point > 0xffff) units.push(0xd800 + ((point - 0x10000) >> 10), 0xdc00 + ((point - 0x10000) & 0x3ff));
    else units.push(point);
    if (units.length >= PIECE) {
      text += apply(fromCharCodes, undefined, units);
      units = [];
    }
    at += length;
  }
  return { text: text + apply<undefined, number[], string>(fromCharCodes, undefined, units), end: at };
}

/** The text of UTF-8 bytes, a byte order mark kept. */
export function decodeUtf8(bytes: Uint8Array): string {
  return readUtf8(bytes, false, false).text;
}

function readUnits(bytes: Uint8Array, step: 1 | 2): string {
  let text = '';
  for (let start = 0; start < bytes.length; start += PIECE) {
    const units: number[] = [];
    const end = Math.min(start + PIECE, bytes.length - step + 1);
    for (let at = start; at < end; at += step) {
      units.push(step === 1 ? (bytes[at] ?? 0) : (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8));
    }
    text += apply(fromCharCodes, undefined, units);
  }
  return text;
}

export class TextEncoder {
  get encoding(): string {
    return 'utf-8';
  }
  encode(text: unknown = ''): Uint8Array {
    return encodeUtf8(String(text));
  }
  encodeInto(text: string, target: Uint8Array): { read: number; written: number } {
    let read = 0;
    let written = 0;
    for (const character of text) {
      const bytes = encodeUtf8(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      written += bytes.length;
      read += character.length;
    }
    return { read, written };
  }
}

const LABELS: Readonly<Record<string, string>> = {
  'utf-8': 'utf-8',
  utf8: 'utf-8',
  'unicode-1-1-utf-8': 'utf-8',
  'utf-16le': 'utf-16le',
  'utf-16': 'utf-16le',
  latin1: 'windows-1252',
  ascii: 'windows-1252',
  'us-ascii': 'windows-1252',
  'iso-8859-1': 'windows-1252',
  'windows-1252': 'windows-1252',
};

/** `utf-8`, `utf-16le`, and `windows-1252` read as latin1. */
export class TextDecoder {
  readonly encoding: string;
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  #rest: Uint8Array = new Uint8Array(0);
  #isStarted = false;

  constructor(label = 'utf-8', options: { fatal?: boolean; ignoreBOM?: boolean } = {}) {
    const encoding = LABELS[label.trim().toLowerCase()];
    if (encoding === undefined) throw new RangeError(`the encoding "${label}" is not supported`);
    this.encoding = encoding;
    this.fatal = Boolean(options.fatal);
    this.ignoreBOM = Boolean(options.ignoreBOM);
  }

  decode(input?: ArrayBuffer | ArrayBufferView, options: { stream?: boolean } = {}): string {
    const view = input === undefined ? new Uint8Array(0) : viewOf(input);
    if (view === undefined) throw new TypeError('decode takes an ArrayBuffer or a view of one');
    let bytes = view;
    if (this.#rest.length > 0) {
      bytes = new Uint8Array(this.#rest.length + view.length);
      bytes.set(this.#rest);
      bytes.set(view, this.#rest.length);
    }
    const isMore = Boolean(options.stream);
    const { text, end } = this.#read(bytes, isMore);
    this.#rest = isMore ? bytes.slice(end) : new Uint8Array(0);
    const isFirst = !this.#isStarted;
    this.#isStarted = isMore && (this.#isStarted || text.length > 0);
    return isFirst && !this.ignoreBOM && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  }

  #read(bytes: Uint8Array, isMore: boolean): Decoded {
    if (this.encoding === 'utf-8') return readUtf8(bytes, this.fatal, isMore);
    const step = this.encoding === 'utf-16le' ? 2 : 1;
    return { text: readUnits(bytes, step), end: bytes.length - (bytes.length % step) };
  }
}
