import type { Func } from 'funcatron';

interface Order {
  readonly customer: string;
  readonly cents: number;
}

/** Longer than any redelivery can take: the retry ladder ends after an hour. */
const REMEMBER_MS = 24 * 3_600_000;

/**
 * Runs once for each message on `funcatron.call` with the key `queue-worker.orderPlaced`. An event may arrive twice
 * (a runner that dies before it acknowledges), always with the same id: the first to count an id wins.
 */
export const orderPlaced: Func<Order> = async (event, context) => {
  const { kv } = context.services;
  const { customer, cents } = event.body;
  const isNew = (await kv.incr(`seen:${event.id}`, 1, { ttlMs: REMEMBER_MS })) === 1;
  const [orders, spent] = await Promise.all([
    kv.incr(`orders:${customer}`, isNew ? 1 : 0),
    kv.incr(`cents:${customer}`, isNew ? cents : 0),
  ]);
  context.log.info(isNew ? 'order counted' : 'order was counted before', { customer, orders, attempt: event.attempt });
  return { customer, orders, cents: spent };
};
