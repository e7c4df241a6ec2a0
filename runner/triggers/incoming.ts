import { createHash } from 'node:crypto';
import type { Delivery } from '../../core/broker/broker.ts';
import { formatId, ID_BYTES, newId, parseId } from '../../core/id.ts';
import { CALL_EXCHANGE, RESERVED_PREFIXES } from '../../core/wire/topology.ts';
import type { ReadRequest } from '../../core/openapi/compile.ts';
import { CallHeader, RetryHeader } from './headers.ts';

/** One message of `ev.<bundle>`, read but not yet checked against any document. */
export interface Incoming {
  readonly delivery: Delivery;
  readonly operationId: string;
  /** The 16 bytes of the call id: from `message_id`, else new. */
  readonly id: Buffer;
  readonly callId: string;
  /** Absent: an event. */
  readonly replyTo: string | undefined;
  /** The attempt this is, deliveries that broke off included. */
  readonly attempt: number;
  /** Unix ms this process's clock; `undefined`: only the operation's own timeout counts. */
  readonly deadline: number | undefined;
  readonly alias: string;
  /** The revision it asks for. */
  readonly revision: string | undefined;
}

export function readIncoming(bundle: string, delivery: Delivery, now: number): Incoming {
  const { properties } = delivery;
  const headers = properties.headers ?? {};
  const id = idOf(properties.messageId);
  const { expirationMs } = properties;
  return {
    delivery,
    operationId: operationOf(bundle, delivery),
    id,
    callId: formatId(id, 0),
    replyTo: properties.replyTo === '' ? undefined : properties.replyTo,
    attempt: numberOf(headers[RetryHeader.attempt], 1) + brokenDeliveries(delivery),
    deadline: expirationMs === undefined ? optionalNumber(headers[RetryHeader.deadline]) : now + expirationMs,
    alias: textOf(headers[CallHeader.alias]) ?? 'live',
    revision: textOf(headers[CallHeader.revision]),
  };
}

/** Whether nobody outside may be answered there: it would put words into our own queues. */
export function isReserved(replyTo: string): boolean {
  return RESERVED_PREFIXES.some((prefix) => replyTo.startsWith(prefix));
}

/** The message as a request, for the validators; header names of the caller's parameters keep their prefix off. */
export function requestOf({ delivery }: { readonly delivery: Pick<Delivery, 'body' | 'properties'> }): ReadRequest {
  const params: Record<string, string> = {};
  const headers: Record<string, string> = {};
  const query: string[] = [];
  for (const [name, value] of Object.entries(delivery.properties.headers ?? {})) {
    const path = after(name, CallHeader.pathPrefix);
    const field = after(name, CallHeader.queryPrefix);
    const header = after(name, CallHeader.headerPrefix);
    if (path !== undefined) params[path] = textOf(value) ?? '';
    else if (field !== undefined) for (const each of listOf(value)) query.push(pair(field, each));
    else if (header !== undefined) headers[header.toLowerCase()] = listOf(value).map(String).join(', ');
    else if (name === CallHeader.traceparent) headers[name] = textOf(value) ?? '';
  }
  const { contentType } = delivery.properties;
  if (contentType !== undefined && contentType !== '') headers['content-type'] = contentType;
  return { params, queryString: query.join('&'), headers, body: delivery.body };
}

function operationOf(bundle: string, { exchange, routingKey, properties }: Delivery): string {
  if (exchange === CALL_EXCHANGE) return routingKey.slice(bundle.length + 1);
  return textOf(properties.headers?.[RetryHeader.operation]) ?? '';
}

/** A message id that is no UUID names the call all the same: by its hash (UUIDv8, RFC 9562 §5.8), so that doubles stay doubles. */
function idOf(messageId: string | undefined): Buffer {
  const given = messageId === undefined || messageId === '' ? newId() : messageId;
  const parsed = parseId(given);
  if (parsed !== undefined) return parsed;
  const id = createHash('sha256').update(given).digest().subarray(0, ID_BYTES);
  id[6] = 0x80 | ((id[6] ?? 0) & 0x0f);
  id[8] = 0x80 | ((id[8] ?? 0) & 0x3f);
  return id;
}

/** Quorum queues count deliveries that were not acknowledged; where the count is missing, `redelivered` means one. */
function brokenDeliveries({ redelivered, properties }: Delivery): number {
  return redelivered ? numberOf(properties.headers?.['x-delivery-count'], 1) : 0;
}

function after(name: string, prefix: string): string | undefined {
  return name.startsWith(prefix) && name.length > prefix.length ? name.slice(prefix.length) : undefined;
}

function pair(name: string, value: unknown): string {
  return `${encodeURIComponent(name)}=${encodeURIComponent(textOf(value) ?? '')}`;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [value];
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint'
    ? String(value)
    : undefined;
}

function optionalNumber(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

function numberOf(value: unknown, otherwise: number): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 ? value : otherwise;
}
