import {
  FIRST_EPOCH,
  type FrontendReport,
  type Report,
  type RunnerReport,
  type Snapshot,
} from '../core/wire/control.ts';

export interface RosterOptions {
  /** Silence after which a member is dropped. */
  readonly memberLostMs: number;
  /** How often members report. */
  readonly reportMs: number;
  /** Whether reports would arrive now: while they cannot, silence means nothing. */
  isHearing(): boolean;
  /** Monotonic ms; for tests. */
  readonly now?: () => number;
}

interface Member<R extends Report> {
  readonly report: R;
  readonly seenAt: number;
}

/**
 * Who lives, from their reports, as the leading Tron knows it. It drops nobody in its first `memberLostMs`: members the
 * leader before knew are presumed to live until they report, and to hold what they held, so that a change of leader
 * changes nothing for calls.
 */
export class Roster {
  readonly #options: RosterOptions;
  readonly #now: () => number;
  readonly #openedAt: number;
  readonly #runners = new Map<string, Member<RunnerReport>>();
  readonly #frontends = new Map<string, Member<FrontendReport>>();
  readonly #presumed = new Set<string>();
  readonly #listeners = new Set<() => void>();
  #sweptAt: number;

  constructor(options: RosterOptions, before?: Snapshot) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#openedAt = this.#now();
    this.#sweptAt = this.#openedAt;
    if (before !== undefined) this.#presume(before);
  }

  /** Runners that live, with what they hold; a presumed one has the first epoch. */
  get runners(): readonly RunnerReport[] {
    return [...this.#runners.values()].map((member) => member.report);
  }

  get frontends(): readonly FrontendReport[] {
    return [...this.#frontends.values()].map((member) => member.report);
  }

  /** Whether everybody who lives has reported by now: decisions about *all* members wait for it. */
  get isSettled(): boolean {
    return this.#presumed.size === 0 || this.#now() - this.#openedAt > 2 * this.#options.reportMs;
  }

  /** Whether this runner is only presumed to live. */
  isPresumed(id: string): boolean {
    return this.#presumed.has(id);
  }

  /** Ms since the member last reported, or `undefined` when it never did. */
  silentMs(id: string): number | undefined {
    const member = this.#runners.get(id) ?? this.#frontends.get(id);
    return member === undefined || this.#presumed.has(id) ? undefined : this.#now() - member.seenAt;
  }

  /** Takes a report; one that says it is stopping drops its member at once. */
  take(report: Report): void {
    this.#presumed.delete(report.id);
    const member = { report, seenAt: this.#now() };
    if (report.stopping) this.#drop(report.id);
    else if (report.role === 'runner') this.#runners.set(report.id, member as Member<RunnerReport>);
    else this.#frontends.set(report.id, member as Member<FrontendReport>);
    this.#changed();
  }

  /** Drops who has been silent for too long; returns their ids. Called several times per `memberLostMs`. */
  sweep(): readonly string[] {
    const now = this.#now();
    const { memberLostMs, reportMs } = this.#options;
    // After a pause of this process (or without a broker) the silence was ours.
    const wasDeaf = !this.#options.isHearing() || now - this.#sweptAt > Math.max(reportMs, memberLostMs / 2);
    this.#sweptAt = now;
    if (wasDeaf) {
      for (const members of [this.#runners, this.#frontends] as Map<string, Member<Report>>[]) {
        for (const [id, member] of members) members.set(id, { ...member, seenAt: now });
      }
    }
    const lost = [...this.#runners, ...this.#frontends].filter(([, { seenAt }]) => now - seenAt > memberLostMs);
    for (const [id] of lost) this.#drop(id);
    this.#changed();
    return lost.map(([id]) => id);
  }

  /** Calls back after every report and sweep, whether they changed anything or not; returns how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #presume(before: Snapshot): void {
    const held = before.bundles.flatMap((bundle) =>
      bundle.revisions.flatMap(({ revision, runners, ready }) =>
        runners.map((id) => ({ id, bundle: bundle.name, revision, isReady: ready > 0 })),
      ),
    );
    for (const [id, revisions] of Map.groupBy(held, (entry) => entry.id)) {
      this.#presumed.add(id);
      this.#runners.set(id, { seenAt: this.#openedAt, report: presumedReport(id, revisions) });
    }
  }

  #drop(id: string): void {
    this.#runners.delete(id);
    this.#frontends.delete(id);
    this.#presumed.delete(id);
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

function presumedReport(
  id: string,
  held: readonly { readonly bundle: string; readonly revision: string; readonly isReady: boolean }[],
): RunnerReport {
  return {
    v: 1,
    role: 'runner',
    id,
    version: '',
    hostname: '',
    pid: 0,
    startedAt: 0,
    sentAt: 0,
    epoch: FIRST_EPOCH,
    stopping: false,
    revisions: held.map(({ bundle, revision, isReady }) => ({
      bundle,
      revision,
      state: isReady ? 'ready' : 'loading',
      workers: 0,
      inFlight: 0,
    })),
  };
}
