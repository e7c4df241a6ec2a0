import { createMetrics, type CounterMetric } from '../core/metrics.ts';
import type { Roster } from './roster.ts';

/** What a Tron counts. */
export interface TronMetrics {
  /** By type and code (`ok` when it was carried out). */
  readonly commands: CounterMetric;
  /** Public messages no bundle takes, by what became of them. */
  readonly unrouted: CounterMetric;
  /** In Prometheus' text format; the roster is the leader's, absent on a follower. */
  text(roster: Roster | undefined): Promise<string>;
}

/** An empty set. */
export function createTronMetrics(): TronMetrics {
  const metrics = createMetrics();
  const leads = metrics.gauge('funcatron_tron_leads', '1 while this tron leads', []);
  const members = metrics.gauge('funcatron_tron_members', 'members that live, as the leader sees it', ['role']);
  return {
    commands: metrics.counter('funcatron_tron_commands_total', 'commands by outcome', ['type', 'code']),
    unrouted: metrics.counter('funcatron_tron_unrouted_total', 'public messages no bundle takes', ['outcome']),
    text(roster) {
      leads.set([], roster === undefined ? 0 : 1);
      members.set(['runner'], roster?.runners.length ?? 0);
      members.set(['frontend'], roster?.frontends.length ?? 0);
      return metrics.text();
    },
  };
}
