import { LOG_LINE_CHARS } from '../bridge.ts';
import { viewOf } from './bytes.ts';
import { ownLines } from './stack.ts';

/** Values as a person reads them in a log: what `console` prints. It runs in the guest, so that the host never touches a guest's value. */

const MAX_DEPTH = 3;
const MAX_ITEMS = 100;
const PLAIN_KEY = /^[A-Za-z_$][\w$]*$/;

/** `console.log`'s text: printf-like directives in a first string, everything joined by blanks, cut to a line's length. */
export function format(args: readonly unknown[]): string {
  const parts: string[] = [];
  let rest = 0;
  const [template] = args;
  if (typeof template === 'string') {
    rest = 1;
    parts.push(
      template.replaceAll(/%[sdifjoOc%]/g, (directive) => {
        if (directive === '%%') return '%';
        return rest < args.length ? formatDirective(directive, args[rest++]) : directive;
      }),
    );
  }
  for (; rest < args.length; rest++) {
    const value = args[rest];
    parts.push(typeof value === 'string' ? value : inspect(value));
  }
  return cut(parts.join(' '));
}

function formatDirective(directive: string, value: unknown): string {
  if (directive === '%c') return '';
  if (directive === '%s') return typeof value === 'string' ? value : inspect(value);
  if (directive === '%j') return JSON.stringify(value) ?? 'undefined';
  if (directive === '%o' || directive === '%O') return inspect(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'symbol') return 'NaN';
  if (directive === '%i') return String(Math.trunc(Number(value)));
  return String(Number(value));
}

/** The text, at most as long as a log line may be. */
export function cut(text: string): string {
  return text.length <= LOG_LINE_CHARS ? text : `${text.slice(0, LOG_LINE_CHARS - 1)}…`;
}

/** One value; never throws. */
export function inspect(value: unknown): string {
  try {
    return inspectAt(value, 0, []);
  } catch {
    return '[not printable]';
  }
}

function inspectAt(value: unknown, depth: number, parents: readonly object[]): string {
  switch (typeof value) {
    case 'string':
      return `'${value.replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`;
    case 'bigint':
      return `${value}n`;
    case 'symbol':
      return value.toString();
    case 'function':
      return value.name ? `[Function: ${value.name}]` : '[Function]';
    case 'object':
      return value === null ? 'null' : inspectObject(value, depth, parents);
    default:
      return Object.is(value, -0) ? '-0' : String(value);
  }
}

function inspectObject(value: object, depth: number, parents: readonly object[]): string {
  if (parents.includes(value)) return '[Circular]';
  if (value instanceof Error) return describeError(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (value instanceof RegExp) return String(value);
  if (value instanceof Promise) return 'Promise { … }';
  const name = nameOf(value);
  if (depth >= MAX_DEPTH) return Array.isArray(value) ? '[Array]' : `[${name || 'Object'}]`;
  const inner = [...parents, value];
  if (Array.isArray(value)) {
    const items = value.slice(0, MAX_ITEMS).map((item) => inspectAt(item, depth + 1, inner));
    return enclose('[', items, value.length, ']');
  }
  if (value instanceof Map) {
    const items = [...value].slice(0, MAX_ITEMS).map(([key, item]) => {
      return `${inspectAt(key, depth + 1, inner)} => ${inspectAt(item, depth + 1, inner)}`;
    });
    return `Map(${value.size}) ${enclose('{', items, value.size, '}')}`;
  }
  if (value instanceof Set) {
    const items = [...value].slice(0, MAX_ITEMS).map((item) => inspectAt(item, depth + 1, inner));
    return `Set(${value.size}) ${enclose('{', items, value.size, '}')}`;
  }
  const view = viewOf(value);
  if (view !== undefined)
    return enclose(`${name}(${view.length}) [`, [...view.subarray(0, 50)].map(String), view.length, ']');
  const keys = Object.keys(value);
  const items = keys.slice(0, MAX_ITEMS).map((key) => {
    const label = PLAIN_KEY.test(key) ? key : inspectAt(key, 0, []);
    return `${label}: ${inspectAt((value as Record<string, unknown>)[key], depth + 1, inner)}`;
  });
  return `${name === 'Object' ? '' : `${name || '[Object: null prototype]'} `}${enclose('{', items, keys.length, '}')}`;
}

function enclose(open: string, items: readonly string[], total: number, close: string): string {
  if (total === 0) return open + close;
  const more = total > items.length ? `, … ${total - items.length} more` : '';
  const isBrace = open === '{';
  return `${open}${isBrace ? ' ' : ''}${items.join(', ')}${more}${isBrace ? ' ' : ''}${close}`;
}

function nameOf(value: object): string {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === null) return '';
  const { constructor } = value;
  return typeof constructor === 'function' ? constructor.name : 'Object';
}

/** `TypeError: message` with the stack's lines that lie in the bundle, and the causes; never throws. */
function describeError(thrown: unknown): string {
  const { name, message, stack } = errorOf(thrown);
  return stack === '' ? `${name}: ${message}` : `${name}: ${message}\n${stack}`;
}

/** What is known of something thrown: error or not, hostile or not. The stack holds only lines of the bundle. */
export function errorOf(thrown: unknown): { name: string; message: string; stack: string } {
  try {
    if (typeof thrown !== 'object' || thrown === null || !('message' in thrown)) {
      return { name: 'Error', message: cut(`${inspect(thrown)} was thrown`), stack: '' };
    }
    const error = thrown as { name: unknown; message: unknown; stack: unknown; cause?: unknown };
    let stack = ownLines(error.stack);
    if (error.cause !== undefined && error.cause !== thrown)
      stack += `${stack ? '\n' : ''}caused by ${inspect(error.cause)}`;
    return { name: cut(String(error.name)), message: cut(String(error.message)), stack: cut(stack) };
  } catch {
    return { name: 'Error', message: 'something was thrown that cannot be read', stack: '' };
  }
}
