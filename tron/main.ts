import { openAdmin } from '../core/admin.ts';
import type { Broker } from '../core/broker/broker.ts';
import { createRepository } from '../core/bundle/repository.ts';
import type { Config } from '../core/config.ts';
import { backoffMs } from '../core/deadline.ts';
import { newId } from '../core/id.ts';
import { delay, ServiceStack, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { Store } from '../core/store/store.ts';
import { createApi } from './api.ts';
import { createDispatch } from './dispatch.ts';
import { createEndpoints } from './endpoints.ts';
import { openHttpPort } from './http.ts';
import { openLeader } from './leader.ts';
import { lead, type Leadership } from './leadership.ts';
import { openLogs } from './logs.ts';
import { loadManagementApi } from './management-api.ts';
import { withRecordCache } from './records.ts';
import { readRegistry } from './registry.ts';
import { openReplies } from './replies.ts';
import { createTokenCheck, type TokenCheck } from './token.ts';
import { createTronMetrics } from './tron-metrics.ts';
import { openUnrouted } from './unrouted.ts';

/** Whoever starts a Tron finds the token in its file afterwards, unless the store is that slow. */
const TOKEN_WAIT_MS = 1_000;

export interface TronOptions {
  readonly config: Config;
  /** Opened and closed by the caller. */
  readonly broker: Broker;
  /** Opened and closed by the caller. */
  readonly store: Store;
  readonly log: Log;
  /** A new one when absent. */
  readonly id?: string;
}

export interface Tron extends Closable {
  readonly id: string;
  /** Where the management API is, without `/v1`: `http://127.0.0.1:8081`. */
  readonly url: string;
  readonly port: number;
  readonly adminPort: number;
}

/**
 * Starts a Tron. Settles when it listens, whether or not broker and store can be reached; `/readyz` says what is
 * missing. `close` takes no more requests, gives the lead up and lets requests under way end.
 * @throws INVALID_CONFIG when a port is taken
 */
export async function openTron(options: TronOptions): Promise<Tron> {
  const { config, broker, store, log } = options;
  const id = options.id ?? newId();
  const stack = new ServiceStack(config.drainMs + 5_000);
  const stop = new AbortController();
  const metrics = createTronMetrics();
  const repository = withRecordCache(createRepository(store));
  const token = createTokenCheck({ store, dataDir: config.dataDir, given: config.token, log });
  let leadership: Leadership | undefined;

  async function leadWhileHeld(signal: AbortSignal): Promise<void> {
    try {
      await lead({ id, broker, store, repository, limits: config, log }, signal, (ready) => (leadership = ready));
    } finally {
      leadership = undefined;
    }
  }

  // Closed from the last to the first: whoever waits still gets an answer after the lead and the replies are gone.
  try {
    const { api, document } = await loadManagementApi();
    const http = stack.push(
      'http',
      await openHttpPort({ host: config.host, port: config.tronPort, serve: (req, res) => app(req, res) }),
    );
    const replies = stack.push('replies', openReplies({ broker, id, log }));
    const logs = stack.push('logs', openLogs({ broker, id, log }));
    stack.push('unrouted', openUnrouted({ broker, log, onMessage: (outcome) => metrics.unrouted.add([outcome]) }));
    const execute = createDispatch({
      ...config,
      replies,
      leadership: () => leadership,
      isLast: () => stop.signal.aborted && broker.kind === 'memory',
      counter: metrics.commands,
    });
    const endpoints = createEndpoints({
      ...config,
      store,
      repository,
      replies,
      logs,
      document,
      execute,
      // Whoever leads need not read and parse what it has in memory, of all bundles.
      registry: async () => leadership?.registry ?? (await readRegistry(store)),
    });
    const app = createApi({
      api,
      document,
      endpoints,
      token,
      maxBodyBytes: config.maxQueueBodyBytes,
      log,
      signal: stop.signal,
    });
    stack.push('requests', { close: () => http.drained(config.drainMs) });
    const leader = stack.push('leader', openLeader({ ...config, store, id, log, lead: leadWhileHeld }));
    const admin = await openAdmin({
      host: config.adminHost,
      port: config.adminPort,
      ready: () => [
        ...(stop.signal.aborted ? ['shutting down'] : []),
        ...(broker.state === 'ready' ? [] : [`the message broker is not ready (${broker.state})`]),
        ...(store.isUp ? [] : ['the store cannot be reached']),
        ...(leader.state === 'unknown' ? ['who leads is not known'] : []),
      ],
      metrics: () => metrics.text(leadership?.roster),
    });
    stack.push('admin', admin);
    const preparing = prepareToken(token, stop.signal, log);
    stack.push('intake', {
      close() {
        stop.abort();
        http.refuse();
        return preparing;
      },
    });
    await Promise.race([preparing, delay(TOKEN_WAIT_MS, stop.signal)]);
    const { url, port } = http;
    log.info({ id, url, adminPort: admin.port }, 'tron listens');
    return { id, url, port, adminPort: admin.port, close: () => stack.close() };
  } catch (error) {
    await stack.close();
    throw error;
  }
}

/** Makes or finds the token as soon as the store lets it; until then the API says STORE_DOWN. */
async function prepareToken(token: TokenCheck, signal: AbortSignal, log: Log): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      return await token.prepare();
    } catch (error) {
      log.warn({ err: error }, 'cannot find or make the management token yet, trying again');
      await delay(backoffMs(attempt), signal);
    }
  }
}
