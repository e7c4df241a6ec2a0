import type { Broker } from '../core/broker/broker.ts';
import { openListener } from '../core/broker/listener.ts';
import type { Closable } from '../core/lifecycle.ts';
import { LOG_LEVELS, type Log, type LogLevel } from '../core/log.ts';
import type { LogLine } from '../core/wire/control.ts';
import { listenerQueue, listenerTopology, logExchange } from '../core/wire/topology.ts';

/** Lines kept of one bundle; the oldest go first. */
const RING_LINES = 10_000;
/** What the lines of all bundles together may take: the oldest of the loudest bundle go first. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Bundles whose lines are kept; the one that has been quiet longest goes first. */
const MAX_BUNDLES = 500;
/** Messages that wait in the queue while this Tron is slow or away; the oldest go first. */
const QUEUE_MESSAGES = 10_000;

/** Which lines; an absent key takes all. */
export interface LogFilter {
  readonly bundle?: string | undefined;
  /** The least level. */
  readonly level?: LogLevel | undefined;
  readonly call?: string | undefined;
  /** Unix ms. */
  readonly since?: number | undefined;
}

/** What funcs logged lately, in memory. */
export interface Logs extends Closable {
  /** The newest `limit` lines that match, oldest first. */
  read(filter: LogFilter, limit: number): readonly LogLine[];
  /** Calls back for every line that matches from now on; returns how to stop. */
  follow(filter: LogFilter, listener: (line: LogLine) => void): () => void;
}

/** Listens to `funcatron.log` through a bounded queue of its own, in the background and through reconnects. */
export function openLogs(options: { readonly broker: Broker; readonly id: string; readonly log: Log }): Logs {
  const { broker, id, log } = options;
  const rings = new Map<string, Ring>();
  let bytes = 0;
  const followers = new Set<{ readonly filter: LogFilter; readonly listener: (line: LogLine) => void }>();
  const listener = openListener({
    broker,
    log,
    queue: listenerQueue(logExchange.name, id),
    topology: listenerTopology(logExchange, id, ['#'], QUEUE_MESSAGES),
    isOwn: true,
    onDelivery: (delivery) => hear(delivery.body),
  });

  function hear(body: Buffer): void {
    const lines = parseLines(body);
    const lineBytes = body.length / Math.max(1, lines.length);
    for (const line of lines) {
      bytes += ringOf(line.bundle).push(line, lineBytes);
      for (const { filter, listener } of followers) if (matches(line, filter)) listener(line);
    }
    makeRoom();
  }

  /** A bundle that floods its log pushes out its own lines, not those of others. */
  function makeRoom(): void {
    while (bytes > MAX_BYTES) {
      const [first, ...others] = rings.values();
      if (first === undefined) return;
      const loudest = others.reduce((most, ring) => (ring.bytes > most.bytes ? ring : most), first);
      while (loudest.bytes > 0 && bytes > MAX_BYTES) bytes -= loudest.dropOldest();
    }
  }

  /** The ring that was written last is the last of the map. */
  function ringOf(bundle: string): Ring {
    const ring = rings.get(bundle) ?? new Ring();
    rings.delete(bundle);
    rings.set(bundle, ring);
    const [quietest] = rings.keys();
    if (rings.size > MAX_BUNDLES && quietest !== undefined) {
      bytes -= rings.get(quietest)?.bytes ?? 0;
      rings.delete(quietest);
    }
    return ring;
  }

  return {
    read(filter, limit) {
      const chosen = filter.bundle === undefined ? [...rings.values()] : [rings.get(filter.bundle) ?? new Ring()];
      const lines = chosen.flatMap((ring) => ring.lines().filter((line) => matches(line, filter)));
      // Runners send batches, so lines of several runners arrive out of order.
      return lines.sort((a, b) => a.time - b.time).slice(-limit);
    },
    follow(filter, onLine) {
      const follower = { filter, listener: onLine };
      followers.add(follower);
      return () => followers.delete(follower);
    },
    close: () => listener.close(),
  };
}

/** The last `RING_LINES` lines of one bundle. */
class Ring {
  #entries: { readonly line: LogLine; readonly bytes: number }[] = [];
  /** Entries before it are dropped; they go when they are half of all. */
  #first = 0;
  bytes = 0;

  /** Returns how many bytes more there are now. */
  push(line: LogLine, bytes: number): number {
    this.#entries.push({ line, bytes });
    this.bytes += bytes;
    return this.#entries.length - this.#first > RING_LINES ? bytes - this.dropOldest() : bytes;
  }

  /** Returns how many bytes fewer there are now. */
  dropOldest(): number {
    const bytes = this.#entries[this.#first++]?.bytes ?? this.bytes;
    this.bytes -= bytes;
    if (2 * this.#first > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
    return bytes;
  }

  lines(): LogLine[] {
    return this.#entries.slice(this.#first).map(({ line }) => line);
  }
}

function matches(line: LogLine, { bundle, level, call, since }: LogFilter): boolean {
  return (
    (bundle === undefined || line.bundle === bundle) &&
    (level === undefined || LOG_LEVELS.indexOf(line.level) >= LOG_LEVELS.indexOf(level)) &&
    (call === undefined || line.callId === call) &&
    (since === undefined || line.time >= since)
  );
}

/** The lines of a message; what is no line is left out. */
function parseLines(body: Buffer): readonly LogLine[] {
  try {
    const lines: unknown = JSON.parse(body.toString());
    return Array.isArray(lines) ? (lines as unknown[]).filter(isLine) : [];
  } catch {
    return []; // Not JSON: no lines.
  }
}

function isLine(value: unknown): value is LogLine {
  const line = value as Partial<LogLine> | null;
  return (
    typeof line?.time === 'number' &&
    typeof line.bundle === 'string' &&
    typeof line.message === 'string' &&
    LOG_LEVELS.some((level) => level === line.level)
  );
}
