/** Below this the estimate is mostly the message's own delay, so clocks count as equal. */
const NOISE_MS = 20;
/** Stamps kept: the best of them wins, and a clock that was set is noticed after this many. */
const WINDOW = 12;

/**
 * Cluster time: the leading Tron's clock, as this process estimates it. Deadlines on the wire are cluster time, so
 * that hosts whose clocks differ agree on when a call has expired.
 *
 * The estimate is a minimum-delay filter (as NTP's, RFC 5905 §10): a stamp is always late by its way here, so of the
 * last stamps the one that seems least late is nearest the truth.
 */
export class ClusterClock {
  readonly #lags: number[] = [];
  #offsetMs = 0;

  /** This process's clock minus the cluster's, in ms; 0 while they differ by less than can be told. */
  get offsetMs(): number {
    return this.#offsetMs;
  }

  /** Unix ms, cluster time. */
  now(): number {
    return Date.now() - this.#offsetMs;
  }

  /** Takes a stamp the leader put on a message it sent just now. */
  observe(sentAt: number, receivedAt = Date.now()): void {
    this.#lags.push(receivedAt - sentAt);
    if (this.#lags.length > WINDOW) this.#lags.shift();
    const least = Math.min(...this.#lags);
    this.#offsetMs = Math.abs(least) < NOISE_MS ? 0 : least;
  }
}
