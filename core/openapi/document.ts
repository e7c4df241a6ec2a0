import {
  CORE_SCHEMA,
  type Event,
  EVENT_ALIAS,
  EVENT_DOCUMENT,
  EVENT_MAPPING,
  EVENT_POP,
  EVENT_SCALAR,
  EVENT_SEQUENCE,
  getScalarValue,
  load,
  mergeTag,
  parseEvents,
  YAMLException,
} from 'js-yaml';
import { FuncatronError, type Problem } from '../errors.ts';
import type { Json, JsonObject } from './api.ts';
import { isObject, pointerTokens, pointerTo } from './json.ts';

/** Where something stands in a file; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A parsed document that can say where each of its values stands. */
export interface SourceDocument {
  /** Plain JSON: aliases and merge keys are written out. */
  readonly value: JsonObject;
  /** Of a value's key (or of the value itself in a list); of its nearest ancestor where it is not there. */
  readonly locate: (pointer: string) => Position;
}

/** Largest document that is read. GitHub's whole API description has about 12 MiB, the usual one 50 KiB. */
const MAX_TEXT_LENGTH = 4 * 1024 * 1024;
/** Most values a document may have once its aliases are written out: 20 lines of YAML can ask for 10⁹. */
const MAX_VALUES = 500_000;
const MAX_DEPTH = 100;
const MAX_ALIASES = 10_000;

const START = 'Begin with openapi: 3.1.0, info and paths; `funcatron init <folder>` writes such a document.';
const YAML =
  'Keys of one mapping stand in the same column, each once, indented by spaces; text with { } [ ] : or # goes in quotes.';

const SCHEMA = CORE_SCHEMA.withTags(mergeTag);

/**
 * Reads YAML 1.2 (with merge keys) or JSON. Throws `INVALID_BUNDLE` with the position of what cannot be read:
 * malformed text, duplicate keys, values JSON does not have, documents that grow without bound.
 */
export function parseDocument(text: string, file: string): SourceDocument {
  if (text.length > MAX_TEXT_LENGTH) {
    const message = `has ${text.length} characters, at most ${MAX_TEXT_LENGTH} are read`;
    throw refusal(file, { message, file, hint: 'Share what repeats with $ref, or make several bundles of it.' });
  }
  const source = withoutTabs(text);
  const value = parseValue(source, file);
  // Most documents have no problem whose place would be asked for.
  let index: { readonly root: Place; readonly starts: readonly number[] } | undefined;
  const locate = (pointer: string): Position => {
    index ??= { root: readPlaces(source), starts: lineStarts(source) };
    return positionAt(index.starts, find(index.root, pointerTokens(pointer)));
  };
  const expansion: Expansion = { left: MAX_VALUES, path: [], ancestors: new Set() };
  const expanded = expand(value, expansion);
  if (expansion.problem !== undefined) {
    throw refusal(file, { ...expansion.problem, file, ...locate(expansion.problem.pointer ?? '') });
  }
  if (!isObject(expanded)) {
    const message = 'is not an object';
    throw refusal(file, { message, file, line: 1, column: 1, hint: START });
  }
  return { value: expanded, locate };
}

/** The error for a file that was refused; its message names the first problem. */
export function refusal(file: string, ...problems: readonly Problem[]): FuncatronError {
  const [first] = problems;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  const place = first?.line === undefined ? file : `${first.file ?? file}:${first.line}:${first.column ?? 1}`;
  return new FuncatronError('INVALID_BUNDLE', `${place}: ${first?.message ?? 'was refused'}${more}`, {
    data: { problems },
  });
}

/** YAML forbids tabs where JSON allows them: between tokens. JSON has none inside its strings. */
function withoutTabs(text: string): string {
  return /^\s*\{/.test(text) && !text.includes('\n---') ? text.replaceAll('\t', ' ') : text;
}

function parseValue(source: string, file: string): unknown {
  try {
    return load(source, { schema: SCHEMA, filename: file, maxDepth: MAX_DEPTH, maxAliases: MAX_ALIASES });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    const { line = 0, column = 0 } = error.mark ?? {};
    const message = `cannot be read as YAML or JSON: ${error.reason}`;
    const hint = source.trim() === '' ? START : YAML;
    throw refusal(file, { message, file, line: line + 1, column: column + 1, hint });
  }
}

interface Expansion {
  left: number;
  /** From the root to the value at hand, and the objects on that way. */
  readonly path: (string | number)[];
  readonly ancestors: Set<object>;
  problem?: Problem;
}

/** A tree of plain JSON; stops at the first thing that is none. */
function expand(value: unknown, state: Expansion): Json {
  if (state.problem !== undefined) return null;
  if (--state.left < 0) return fail(state, `has more than ${MAX_VALUES} values once its aliases are written out`);
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    return Number.isFinite(value) ? value : fail(state, `has the value ${value}, which JSON does not have`);
  }
  if (typeof value !== 'object') return fail(state, `has a ${typeof value}, which JSON does not have`);
  if (state.ancestors.has(value)) return fail(state, 'has an alias to something it is part of');
  if (state.ancestors.size >= MAX_DEPTH) return fail(state, `is nested more than ${MAX_DEPTH} levels deep`);
  state.ancestors.add(value);
  const expanded = Array.isArray(value)
    ? value.map((item, index) => expandMember(index, item, state))
    : expandObject(value, state);
  state.ancestors.delete(value);
  return expanded;
}

function expandObject(object: object, state: Expansion): Json {
  const expanded: Record<string, Json> = {};
  for (const [key, member] of Object.entries(object)) {
    if (key === '__proto__') return fail(state, 'has the key __proto__, which cannot be used');
    expanded[key] = expandMember(key, member, state);
  }
  return expanded;
}

function expandMember(key: string | number, member: unknown, state: Expansion): Json {
  state.path.push(key);
  const expanded = expand(member, state);
  state.path.pop();
  return expanded;
}

function fail(state: Expansion, message: string): null {
  state.problem ??= { message, pointer: pointerTo('', ...state.path) };
  return null;
}

/** Where a value stands, and its members. */
interface Place {
  readonly offset: number;
  readonly members: Map<string, Place>;
  /** What merge keys bring in. */
  readonly merged: Place[];
}

function readPlaces(source: string): Place {
  return new PlaceReader(source).read(parseEvents(source, { maxDepth: MAX_DEPTH }));
}

/** Walks the parser's events once; collections are closed by a POP. */
class PlaceReader {
  readonly #source: string;
  readonly #anchors = new Map<string, Place>();
  #events: readonly Event[] = [];
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  read(events: readonly Event[]): Place {
    this.#events = events;
    this.#at = events[0]?.type === EVENT_DOCUMENT ? 1 : 0;
    return this.#value(undefined);
  }

  /** The place of the next value; `key` is where its key stands. */
  #value(key: number | undefined): Place {
    const event = this.#events[this.#at++];
    const place: Place = { offset: key ?? startOf(event), members: new Map(), merged: [] };
    if (event === undefined) return place;
    if (event.type === EVENT_ALIAS) {
      const target = this.#anchors.get(this.#source.slice(event.anchorStart, event.anchorEnd));
      return { ...place, ...(target === undefined ? {} : { members: target.members, merged: target.merged }) };
    }
    if ('anchorStart' in event && event.anchorStart >= 0) {
      this.#anchors.set(this.#source.slice(event.anchorStart, event.anchorEnd), place);
    }
    if (event.type === EVENT_MAPPING) this.#mapping(place);
    if (event.type === EVENT_SEQUENCE) this.#sequence(place);
    return place;
  }

  #mapping(place: Place): void {
    while (!this.#closed()) {
      const key = this.#events[this.#at++];
      if (key?.type !== EVENT_SCALAR) return;
      const name = getScalarValue(this.#source, key);
      const several = this.#events[this.#at]?.type === EVENT_SEQUENCE;
      const value = this.#value(startOf(key));
      if (name === '<<') place.merged.push(...(several ? value.members.values() : [value]));
      place.members.set(name, value);
    }
  }

  #sequence(place: Place): void {
    for (let index = 0; !this.#closed(); index++) place.members.set(String(index), this.#value(undefined));
  }

  #closed(): boolean {
    const event = this.#events[this.#at];
    if (event !== undefined && event.type !== EVENT_POP) return false;
    this.#at++;
    return true;
  }
}

function startOf(event: Event | undefined): number {
  switch (event?.type) {
    case EVENT_SCALAR:
      return event.style === 2 || event.style === 3 ? event.valueStart - 1 : Math.max(0, event.valueStart);
    case EVENT_MAPPING:
    case EVENT_SEQUENCE:
      return event.start;
    case EVENT_ALIAS:
      return event.anchorStart - 1;
    default:
      return 0;
  }
}

function find(root: Place, tokens: readonly string[]): number {
  let place = root;
  for (const token of tokens) {
    const next = place.members.get(token) ?? place.merged.find((each) => each.members.has(token))?.members.get(token);
    if (next === undefined) break;
    place = next;
  }
  return place.offset;
}

/** Offsets at which lines begin. */
function lineStarts(source: string): readonly number[] {
  const starts = [0];
  for (let next = source.indexOf('\n'); next >= 0; next = source.indexOf('\n', next + 1)) starts.push(next + 1);
  return starts;
}

function positionAt(starts: readonly number[], offset: number): Position {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((starts[middle] ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return { line: low + 1, column: offset - (starts[low] ?? 0) + 1 };
}
