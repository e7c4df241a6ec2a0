import { type Func, type InitContext, type Postgres, reply } from 'funcatron';

interface Item {
  readonly sku: string;
  readonly quantity: number;
}

/** Outside of a call each query stands for itself. Workers on several runners come up side by side: one at a time makes the tables. */
export async function init({ services }: InitContext): Promise<void> {
  const db: Postgres = services.db;
  await db.query(`do $$ begin
    perform pg_advisory_xact_lock(hashtext('orders'));
    create table if not exists stock (sku text primary key, quantity int not null);
    create table if not exists orders (id uuid primary key, customer text not null, items jsonb not null);
  end $$`);
}

export const getStock: Func = async ({ params }, { services }) => {
  const { rows } = await services.db.query('select quantity from stock where sku = $1', [params.sku]);
  return rows[0] ?? reply(404, { title: `there is no ${params.sku}` });
};

export const setStock: Func = async ({ params, body }, { services }) => {
  const upsert = 'insert into stock values ($1, $2) on conflict (sku) do update set quantity = excluded.quantity';
  await services.db.query(upsert, [params.sku, body.quantity]);
};

/**
 * All queries of a call are one transaction, committed before the answer leaves. A 409 commits too, so nothing is written
 * before everything is known to be there; whatever throws takes back what was written.
 */
export const placeOrder: Func<{ customer: string; items: readonly Item[] }> = async (event, { services }) => {
  const db: Postgres = services.db;
  const { customer, items } = event.body;
  const skus = items.map(({ sku }) => sku);
  // In one order for everybody, or two calls would wait for each other.
  const lock = 'select sku, quantity from stock where sku = any($1) order by sku for update';
  const { rows } = await db.query<Item>(lock, [skus]);
  const left = new Map(rows.map(({ sku, quantity }) => [sku, quantity]));
  for (const { sku, quantity } of items) left.set(sku, (left.get(sku) ?? 0) - quantity);
  const short = [...left].filter(([, quantity]) => quantity < 0).map(([sku]) => sku);
  if (short.length > 0) return reply(409, { title: 'not enough', skus: short });
  for (const [sku, quantity] of left) await db.query('update stock set quantity = $2 where sku = $1', [sku, quantity]);
  // The id of a call is the same on every attempt: sent twice, the second one fails and changes nothing.
  await db.query('insert into orders values ($1, $2, $3)', [event.id, customer, JSON.stringify(items)]);
  return reply(201, { id: event.id });
};
