import type { AnyFunc } from '../../../core/bundle/providers.ts';
import { viewOf } from './bytes.ts';

/** Funcs as providers make them: with more in their context, and with serializers of the bundle's own. */

const REPLY = Symbol.for('funcatron.reply');
const { get, has } = Reflect;
const { hasOwn } = Object;

/** The func with what `extend(context, event)` returns laid over its context. */
export function layered(func: AnyFunc, extend: AnyFunc): AnyFunc {
  return (event, context) => {
    const layer = extend(context, event);
    if (!isThenable(layer)) return func(event, lay(layer, context as object));
    return layer.then((settled) => func(event, lay(settled, context as object)));
  };
}

function lay(layer: unknown, context: object): object {
  if (typeof layer !== 'object' || layer === null || layer === context) return context;
  return new Proxy(context, {
    get(target, key) {
      if (hasOwn(layer, key)) return get(layer, key);
      // Its getters read private fields, so they and its functions need the context itself.
      const value: unknown = get(target, key, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
    has: (target, key) => hasOwn(layer, key) || has(target, key),
  });
}

/** The func with every value it returns written by the serializer of its content type, where there is one. */
export function serialized(func: AnyFunc, getSerializer: AnyFunc): AnyFunc {
  return (event, context) => {
    const result = func(event, context);
    return isThenable(result)
      ? result.then((value) => serialize(value, getSerializer))
      : serialize(result, getSerializer);
  };
}

interface Reply {
  readonly [REPLY]: true;
  readonly status: number;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, unknown>>;
}

function serialize(result: unknown, getSerializer: AnyFunc): unknown {
  const reply: Reply = isReply(result) ? result : { [REPLY]: true, status: 200, body: result, headers: {} };
  const { body, headers } = reply;
  if (body === undefined || typeof body === 'string' || viewOf(body) !== undefined) return result;
  const contentType = contentTypeOf(headers);
  const serializer = getSerializer(essenceOf(contentType));
  if (typeof serializer !== 'function') return result;
  return {
    ...reply,
    body: (serializer as AnyFunc)(body, contentType),
    headers: { ...headers, 'content-type': contentType },
  };
}

function isReply(value: unknown): value is Reply {
  return typeof value === 'object' && value !== null && (value as { [REPLY]?: unknown })[REPLY] === true;
}

function contentTypeOf(headers: Readonly<Record<string, unknown>>): string {
  for (const name in headers) {
    const value = headers[name];
    if (name.toLowerCase() === 'content-type' && typeof value === 'string') return value;
  }
  return 'application/json';
}

/** A content type without its parameters, in lower case. */
function essenceOf(contentType: string): string {
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}

/** Whether a func's result is still to come. */
export function isThenable(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}
