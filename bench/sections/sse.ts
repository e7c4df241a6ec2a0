import { clientsAllowed, measureSse } from '../measures/sse.ts';
import { digits, type Section } from '../page.ts';

const COUNTS = [4_000, 10_000];

export const sse: Section = async ({ say, table, must }, isQuick) => {
  const allowed = clientsAllowed();
  const rows: (string | number)[][] = [];
  for (const clients of isQuick ? COUNTS.slice(0, 1) : COUNTS) {
    if (clients > allowed) {
      rows.push([clients, `not run: a frontend may open files for ${allowed}`, '', '', '', '', '', '', '']);
      continue;
    }
    const result = await measureSse({ clients, seconds: isQuick ? 5 : 10 });
    const { without, beside, open, served, slots, deliveries } = result;
    const memory = Object.entries(result.memoryKbPerClient).map(([name, kb]) => `${name} ${digits(kb)}`);
    rows.push([
      clients,
      `${open} open, ${served} served`,
      slots,
      deliveries,
      memory.join(', '),
      `${digits(without.p50Ms)} / ${digits(without.p99Ms)}`,
      `${digits(beside.p50Ms)} / ${digits(beside.p99Ms)}`,
      `${digits(beside.p50Ms / without.p50Ms)} / ${digits(beside.p99Ms / without.p99Ms)}`,
      beside.errors,
    ]);
    const load = `${clients} clients of server-sent events`;
    must({
      load,
      must: 'all stay served',
      found: `${served} of ${clients}`,
      isMet: served === clients && open === clients,
    });
    must({
      load,
      must: 'no slots, no deliveries held',
      found: `${slots} and ${deliveries}`,
      isMet: slots === 0 && deliveries === 0,
    });
  }
  say();
  say('## Clients that wait for server-sent events');
  say();
  say(
    'All on one frontend, one runner and one worker, each with an event every 5 s. Beside them 500 ordinary calls a second to the same worker (open loop), before and while they are there.',
  );
  table(
    [
      'clients',
      'at the end',
      'slots held',
      'deliveries held',
      'memory KB a client (PSS)',
      'calls without them, p50 / p99 ms',
      'beside them',
      'ratio',
      'errors',
    ],
    rows,
  );
};
