import type { Broker } from '../core/broker/broker.ts';
import type { Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { LogLine } from '../core/wire/control.ts';
import { logExchange } from '../core/wire/topology.ts';

/** Lines of one bundle and level travel together this often. */
const FLUSH_MS = 50;
/** Lines kept of one bundle and level between two flushes; more are counted and dropped. */
const MAX_LINES = 1_000;
/** Longest message of one line. */
const MAX_MESSAGE_CHARS = 16 * 1024;

interface Pending {
  readonly key: string;
  lines: LogLine[];
  dropped: number;
}

/** Sends what funcs log to `funcatron.log`. Logs are worth less than calls: what does not fit, or finds no broker, is dropped and counted. */
export class LogShipper implements Closable {
  readonly #broker: Broker;
  readonly #log: Log;
  readonly #pending = new Map<string, Pending>();
  #timer: NodeJS.Timeout | undefined;
  #declared = false;

  constructor(broker: Broker, log: Log) {
    this.#broker = broker;
    this.#log = log;
  }

  add(line: LogLine): void {
    const { level, message } = line;
    this.#log.debug({ line }, 'a func logged');
    const key = `${line.bundle}.${level}`;
    let pending = this.#pending.get(key);
    if (pending === undefined) this.#pending.set(key, (pending = { key, lines: [], dropped: 0 }));
    this.#timer ??= setTimeout(() => this.#flush(), FLUSH_MS);
    if (pending.lines.length >= MAX_LINES) {
      pending.dropped++;
      return;
    }
    const shortened = message.length > MAX_MESSAGE_CHARS ? `${message.slice(0, MAX_MESSAGE_CHARS)}…` : message;
    const lost = pending.dropped > 0 && pending.lines.length === 0 ? { dropped: pending.dropped } : {};
    if (pending.lines.length === 0) pending.dropped = 0;
    pending.lines.push({ ...line, message: shortened, ...lost });
  }

  /** Sends what is there. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#send();
  }

  #flush(): void {
    this.#timer = undefined;
    void this.#send();
  }

  async #send(): Promise<void> {
    const { state } = this.#broker;
    const isThere = state === 'ready' && (this.#declared || (await this.#declare()));
    for (const pending of this.#pending.values()) {
      const { lines } = pending;
      if (lines.length === 0) continue;
      pending.lines = [];
      const outcome = isThere
        ? await this.#broker.publish({
            exchange: logExchange.name,
            routingKey: pending.key,
            body: Buffer.from(JSON.stringify(lines)),
            properties: { contentType: 'application/json', type: 'logs' },
          })
        : 'down';
      if (outcome !== 'accepted') pending.dropped += lines.length;
      else if (pending.dropped === 0 && pending.lines.length === 0) this.#pending.delete(pending.key);
    }
  }

  async #declare(): Promise<boolean> {
    try {
      await this.#broker.declare({ exchanges: [logExchange] });
      this.#declared = true;
    } catch {
      // Declared at the next reconnect all the same; until then lines are dropped and counted.
    }
    return this.#declared;
  }
}
