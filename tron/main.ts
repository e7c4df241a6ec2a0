import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { listen, openAdmin } from '../core/admin.ts';
import type { Broker } from '../core/broker/broker.ts';
import { createRepository } from '../core/bundle/repository.ts';
import type { Config } from '../core/config.ts';
import { backoffMs } from '../core/deadline.ts';
import { FuncatronError } from '../core/errors.ts';
import { newId } from '../core/id.ts';
import { delay, ServiceStack, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { createMetrics } from '../core/metrics.ts';
import type { Store } from '../core/store/store.ts';
import { createApi } from './api.ts';
import type { Command, Outcome } from './commands.ts';
import { createEndpoints } from './endpoints.ts';
import { forward } from './forward.ts';
import { openLeader } from './leader.ts';
import { lead, type Leadership } from './leadership.ts';
import { openLogs } from './logs.ts';
import { withRecordCache } from './records.ts';
import { openReplies } from './replies.ts';
import { loadManagementApi } from './management-api.ts';
import { createTokenCheck, type TokenCheck } from './token.ts';
import { openUnrouted } from './unrouted.ts';

/** What a stopping tron gives its last answers to leave. */
const ANSWER_MS = 500;

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
  const metrics = createMetrics();
  const commands = metrics.counter('funcatron_tron_commands_total', 'commands carried out or refused', [
    'type',
    'code',
  ]);
  const unrouted = metrics.counter('funcatron_tron_unrouted_total', 'public messages no bundle takes', ['outcome']);
  const leads = metrics.gauge('funcatron_tron_leads', '1 while this tron leads', []);
  const members = metrics.gauge('funcatron_tron_members', 'members that live, as the leader sees it', ['role']);
  let leadership: Leadership | undefined;

  // Closed in reverse: intake, admin, lead, requests under way; then what they waited for is answered.
  const repository = withRecordCache(createRepository(store));
  const server = createServer((req, res) => app(req, res));
  stack.push('connections', { close: () => drain(server, ANSWER_MS, true) });
  const replies = stack.push('replies', openReplies({ broker, id, log }));
  const logs = stack.push('logs', openLogs({ broker, id, log }));
  stack.push('unrouted', openUnrouted({ broker, log, onMessage: (outcome) => unrouted.add([outcome]) }));
  const token = createTokenCheck({ store, dataDir: config.dataDir, given: config.token, log });
  const limits = config;

  /** Here when this Tron leads, otherwise by whoever does; a lead lost on the way makes it the latter. */
  async function execute(command: Command): Promise<Outcome> {
    const commandId = newId();
    try {
      const outcome = await carryOut(commandId, command);
      commands.add([command.type, 'ok']);
      return outcome;
    } catch (error) {
      commands.add([command.type, error instanceof FuncatronError ? error.code : 'INTERNAL']);
      throw error;
    }
  }

  async function carryOut(commandId: string, command: Command): Promise<Outcome> {
    try {
      if (leadership !== undefined) return await leadership.execute(commandId, command);
    } catch (error) {
      if (!(error instanceof FuncatronError) || error.code !== 'NO_LEADER') throw error;
    }
    if (stop.signal.aborted && broker.kind === 'memory') {
      throw new FuncatronError('SHUTTING_DOWN', 'this tron is stopping, and there is no other');
    }
    // A removal waits for the frontends, and then for the drain.
    const timeoutMs = 2 * config.leaseMs + (command.type === 'members' ? 0 : 2 * config.deployTimeoutMs);
    return forward({ replies, timeoutMs }, commandId, command);
  }

  async function leadWhileHeld(signal: AbortSignal): Promise<void> {
    try {
      await lead({ id, broker, store, repository, limits, log }, signal, (ready) => (leadership = ready));
    } finally {
      leadership = undefined;
    }
  }

  function unready(): readonly string[] {
    return [
      ...(stop.signal.aborted ? ['shutting down'] : []),
      ...(broker.state === 'ready' ? [] : [`the message broker is not ready (${broker.state})`]),
      ...(store.isUp ? [] : ['the store cannot be reached']),
      ...(leader.state === 'unknown' ? ['who leads is not known'] : []),
    ];
  }

  const { api, document } = await loadManagementApi();
  const endpoints = createEndpoints({ ...config, store, repository, replies, logs, document, execute });
  const app = createApi({
    api,
    document,
    endpoints,
    token,
    maxBodyBytes: config.maxQueueBodyBytes,
    log,
    signal: stop.signal,
  });
  try {
    await listen(server, config.tronPort, config.host, '--tron-port');
  } catch (error) {
    await stack.close();
    throw error;
  }
  stack.push('requests', { close: () => drain(server, config.drainMs, false) });
  const leader = openLeader({ store, id, leaseMs: config.leaseMs, log, lead: leadWhileHeld });
  stack.push('leader', leader);
  try {
    const admin = await openAdmin({
      host: config.adminHost,
      port: config.adminPort,
      ready: unready,
      metrics() {
        leads.set([], leadership === undefined ? 0 : 1);
        members.set(['runner'], leadership?.roster.runners.length ?? 0);
        members.set(['frontend'], leadership?.roster.frontends.length ?? 0);
        return metrics.text();
      },
    });
    stack.push('admin', admin);
    const preparing = prepareToken(token, stop.signal, log);
    stack.push('intake', {
      close() {
        stop.abort();
        server.close();
        return preparing;
      },
    });
    await Promise.race([preparing, delay(1_000, stop.signal)]);
    const { port } = server.address() as AddressInfo;
    const url = urlOf(config.host, port);
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

/** Waits until every request has its answer, at most `waitMs`; then connections may be cut. */
async function drain(server: Server, waitMs: number, isLast: boolean): Promise<void> {
  server.closeIdleConnections();
  const stop = new AbortController();
  server.once('close', () => stop.abort());
  const open = await new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)));
  if (open > 0) await delay(waitMs, stop.signal);
  if (isLast) server.closeAllConnections();
}

function urlOf(host: string, port: number): string {
  const name = host === '0.0.0.0' || host === '::' ? hostname() : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}
