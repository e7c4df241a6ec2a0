import type { ApiParameter } from './api.ts';
import { type Bag, createBag } from './bag.ts';
import { decodeAll, MalformedText, type RawPairs } from './raw-pairs.ts';
import type { Shape } from './schema.ts';

/** What one value on the wire turns into before coercion: text, a list, an object, or any JSON for `content`. */
export type Reader<Source> = (source: Source) => unknown;

/** What a reader has to know of its parameter. */
export interface Serialisation {
  readonly name: string;
  readonly location: ApiParameter['in'];
  readonly style: ApiParameter['style'];
  readonly explode: boolean;
  readonly json: boolean;
  readonly shape: Shape;
  /** Names of an object's properties: with `form` and `explode` each is a pair of its own. */
  readonly properties: readonly string[];
  /** Whether an exploded object also takes the pairs nobody else declares. */
  readonly open: boolean;
  /** Names other parameters declare. */
  readonly taken: ReadonlySet<string>;
}

/** Reads a query parameter, a cookie or a form's field. OpenAPI 3.1 §4.8.12.2; RFC 6570 §3.2.8. */
export function createPairReader(wanted: Serialisation, decode: (raw: string) => string): Reader<RawPairs> {
  const { name, style, explode, shape } = wanted;
  if (wanted.json) return (pairs) => parseJson(pairs.get(name), decode);
  if (style === 'deepObject') return (pairs) => readDeepObject(pairs, name, decode);
  if (shape === 'object' && explode && style === 'form') return (pairs) => readExplodedObject(pairs, wanted, decode);
  if (shape === 'value' || (shape === 'array' && explode)) {
    const list = shape === 'array';
    return (pairs) => {
      const raw = pairs.get(name);
      if (raw === undefined) return undefined;
      return list && typeof raw === 'string' ? [decode(raw)] : decodeAll(raw, decode);
    };
  }
  const delimiter = DELIMITERS[style] ?? ',';
  return (pairs) => {
    const raw = pairs.get(name);
    // A name sent twice stays a list, which no schema of one list or object accepts.
    if (typeof raw !== 'string') return raw;
    const parts = raw === '' ? [] : raw.split(delimiter).map(decode);
    return shape === 'array' ? parts : pairUp(parts);
  };
}

/** Delimiters as they travel: a space and a pipe are not legal in a URL, so clients encode them. */
const DELIMITERS: Readonly<Partial<Record<ApiParameter['style'], RegExp>>> = {
  spaceDelimited: /%20|\+| /,
  pipeDelimited: /%7c|\|/i,
  tabDelimited: /%09|\t/,
};

/** Reads a header or a path parameter, whose value is one text already decoded. RFC 6570 §3.2.2, 3.2.5, 3.2.7. */
export function createTextReader(wanted: Serialisation): Reader<string> {
  const { name, style, explode, shape } = wanted;
  if (wanted.json) return (text) => parseJson(text, identity);
  // Only lists in headers have white space around their commas. RFC 9110 §5.6.1.
  const delimiter = TEXT_DELIMITERS[style] ?? (wanted.location === 'header' ? /[ \t]*,[ \t]*/ : ',');
  switch (style) {
    case 'label':
      return (text) => readLabel(text, shape, explode);
    case 'matrix':
      return (text) => readMatrix(text, name, shape, explode);
    default:
      return shape === 'value' ? identity : (text) => readList(text, shape, explode, delimiter);
  }
}

/** Swagger 2.0 has these in headers and paths too. */
const TEXT_DELIMITERS: Readonly<Partial<Record<ApiParameter['style'], string>>> = {
  spaceDelimited: ' ',
  pipeDelimited: '|',
  tabDelimited: '\t',
};

function readList(text: string, shape: Shape, explode: boolean, delimiter: string | RegExp = ','): unknown {
  const parts = text === '' ? [] : text.split(delimiter);
  if (shape === 'array') return parts;
  return explode ? splitPairs(parts) : pairUp(parts);
}

function readLabel(text: string, shape: Shape, explode: boolean): unknown {
  if (!text.startsWith('.')) throw new MalformedText('does not begin with . as its style label asks');
  const rest = text.slice(1);
  if (shape === 'value') return rest;
  // OpenAPI up to 3.0.3 shows `.a.b` for explode: false, later editions `.a,b` as RFC 6570 has it.
  const parts = rest === '' ? [] : rest.split(!explode && rest.includes(',') ? ',' : '.');
  if (shape === 'array') return parts;
  return explode ? splitPairs(parts) : pairUp(parts);
}

function readMatrix(text: string, name: string, shape: Shape, explode: boolean): unknown {
  if (!text.startsWith(';')) throw new MalformedText('does not begin with ; as its style matrix asks');
  const parts = text.slice(1).split(';');
  if (shape === 'object' && explode) return splitPairs(parts);
  const values = parts.map((part) => {
    if (part === name) return '';
    if (!part.startsWith(`${name}=`)) throw new MalformedText(`does not have the form ;${name}=… of its style matrix`);
    return part.slice(name.length + 1);
  });
  if (shape === 'array' && explode) return values;
  if (values.length > 1) throw new MalformedText(`has ;${name}= more than once`);
  const [value = ''] = values;
  return shape === 'value' ? value : readList(value, shape, false);
}

function readExplodedObject(pairs: RawPairs, wanted: Serialisation, decode: (raw: string) => string): unknown {
  let value: Bag | undefined;
  for (const property of wanted.properties) {
    const raw = pairs.get(property);
    if (raw !== undefined) (value ??= createBag())[property] = decodeAll(raw, decode);
  }
  if (!wanted.open) return value;
  for (const [name, raw] of pairs) {
    if (!wanted.taken.has(name)) (value ??= createBag())[name] = decodeAll(raw, decode);
  }
  return value;
}

function readDeepObject(pairs: RawPairs, name: string, decode: (raw: string) => string): unknown {
  let value: Bag | undefined;
  for (const [key, raw] of pairs) {
    const property = deepObjectProperty(key, name);
    if (property !== undefined) (value ??= createBag())[property] = decodeAll(raw, decode);
  }
  return value;
}

/** `color[R]` → `R`. Deeper brackets have no meaning in any edition of the specification. */
export function deepObjectProperty(key: string, name: string): string | undefined {
  if (!key.startsWith(`${name}[`) || !key.endsWith(']')) return undefined;
  const property = key.slice(name.length + 1, -1);
  return property === '' || property.includes('[') || property.includes(']') ? undefined : property;
}

/** `R,100,G,200` */
function pairUp(parts: readonly string[]): Bag<string> {
  if (parts.length % 2 === 1) throw new MalformedText('has a name without a value');
  const value = createBag<string>();
  for (let index = 0; index < parts.length; index += 2) value[parts[index] ?? ''] = parts[index + 1] ?? '';
  return value;
}

/** `R=100`, `G=200` */
function splitPairs(parts: readonly string[]): Bag<string> {
  const value = createBag<string>();
  for (const part of parts) {
    const equals = part.indexOf('=');
    if (equals < 0) throw new MalformedText('has a name without a value');
    value[part.slice(0, equals)] = part.slice(equals + 1);
  }
  return value;
}

function parseJson(raw: string | readonly string[] | undefined, decode: (raw: string) => string): unknown {
  if (raw === undefined) return undefined;
  if (typeof raw !== 'string') throw new MalformedText('was sent more than once');
  try {
    return JSON.parse(decode(raw)) as unknown;
  } catch (error) {
    throw error instanceof MalformedText ? error : new MalformedText('is not JSON');
  }
}

function identity(text: string): string {
  return text;
}
