import type { ExchangeSpec } from '../wire/topology.ts';
import type { MemoryQueue } from './memory-queue.ts';

/** Routes remembered per exchange; when there are more, all are forgotten and worked out again. */
const ROUTE_CACHE_SIZE = 10_000;
const NOWHERE: readonly MemoryQueue[] = [];

interface Binding {
  readonly key: string;
  readonly queue: MemoryQueue;
}

/** One exchange: which queues a routing key leads to. */
export class MemoryExchange {
  readonly spec: ExchangeSpec;
  readonly alternate: string | undefined;
  readonly #bindings: Binding[] = [];
  readonly #routes = new Map<string, readonly MemoryQueue[]>();

  constructor(spec: ExchangeSpec) {
    this.spec = spec;
    const alternate = spec.arguments['alternate-exchange'];
    this.alternate = alternate === undefined ? undefined : String(alternate);
  }

  /** Returns false when the binding was there already. */
  bind(key: string, queue: MemoryQueue): boolean {
    if (this.#bindings.some((each) => each.key === key && each.queue === queue)) return false;
    this.#bindings.push({ key, queue });
    this.#routes.clear();
    return true;
  }

  /** Without a key: all bindings of the queue. */
  unbind(queue: MemoryQueue, key?: string): void {
    const kept = this.#bindings.filter((each) => each.queue !== queue || (key !== undefined && each.key !== key));
    if (kept.length === this.#bindings.length) return;
    this.#bindings.splice(0, this.#bindings.length, ...kept);
    this.#routes.clear();
  }

  /** Each queue at most once, however many of its bindings match. */
  route(key: string): readonly MemoryQueue[] {
    const known = this.#routes.get(key);
    if (known !== undefined) return known;
    const matches = this.#matcher(key);
    const queues = new Set<MemoryQueue>();
    for (const binding of this.#bindings) if (matches(binding.key)) queues.add(binding.queue);
    const route = queues.size === 0 ? NOWHERE : [...queues];
    if (this.#routes.size >= ROUTE_CACHE_SIZE) this.#routes.clear();
    this.#routes.set(key, route);
    return route;
  }

  #matcher(key: string): (pattern: string) => boolean {
    if (this.spec.type === 'fanout') return () => true;
    if (this.spec.type === 'direct') return (pattern) => pattern === key;
    const words = splitKey(key);
    return (pattern) => matchesTopic(splitKey(pattern), words);
  }
}

/** The words of a key. As in RabbitMQ, the empty key has none, and `a.` has two, the last one empty. */
function splitKey(key: string): readonly string[] {
  return key === '' ? [] : key.split('.');
}

/**
 * Whether a binding pattern matches the words of a routing key: `*` is exactly one word, `#` any number, also none
 * (`z.#` matches `z`). Going back to the last `#` only is enough, as with `*` in file names, so this is never exponential.
 * Source: rabbit_exchange_type_topic.erl
 */
export function matchesTopic(pattern: readonly string[], words: readonly string[]): boolean {
  let p = 0;
  let w = 0;
  let hash = -1;
  let resumeAt = 0;
  while (w < words.length) {
    if (pattern[p] === '#') {
      hash = p++;
      resumeAt = w;
    } else if (p < pattern.length && (pattern[p] === '*' || pattern[p] === words[w])) {
      p++;
      w++;
    } else if (hash >= 0) {
      p = hash + 1;
      w = ++resumeAt;
    } else {
      return false;
    }
  }
  while (pattern[p] === '#') p++;
  return p === pattern.length;
}
