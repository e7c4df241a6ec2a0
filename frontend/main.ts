import { join } from 'node:path';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { listen, openAdmin } from '../core/admin.ts';
import type { Broker } from '../core/broker/broker.ts';
import { openRpc } from '../core/broker/rpc.ts';
import { ClusterClock } from '../core/clock.ts';
import type { Config } from '../core/config.ts';
import { TimerWheel } from '../core/deadline.ts';
import { newId } from '../core/id.ts';
import { ServiceStack, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { memberReport, openMembership } from '../core/membership.ts';
import { createMetrics } from '../core/metrics.ts';
import { StampClock } from '../core/stamp-clock.ts';
import type { Store } from '../core/store/store.ts';
import { urlOf } from '../core/url.ts';
import type { FrontendReport } from '../core/wire/control.ts';
import { Admission, WaitingRoom } from './admission.ts';
import { createCallMetrics, createRpcMetrics } from './call-metrics.ts';
import { createOperatorCheck } from './operator-check.ts';
import { createOwnRoutes } from './own-routes.ts';
import { handleCall, type PipelineContext } from './pipeline.ts';
import { createRecords } from './records.ts';
import { Routes } from './routes.ts';
import { createFrontendServer } from './server.ts';
import { UnreadAnswers } from './unread-answers.ts';
import { createTransferAgent } from './transfer.ts';
import { ValidatorCache } from './validators.ts';

export interface FrontendOptions {
  readonly config: Config;
  /** Opened and closed by the caller. */
  readonly broker: Broker;
  /** Opened and closed by the caller. */
  readonly store: Store;
  readonly log: Log;
  /** A new one when absent. */
  readonly id?: string;
}

export interface Frontend extends Closable {
  readonly id: string;
  /** Where bundles answer: `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly port: number;
  readonly adminPort: number;
}

/**
 * Starts a frontend. Settles when it listens, whether or not broker, store and Tron can be reached: it serves what it
 * has on disk, and `/readyz` says what is missing. `close` drains: no new connections, every call in flight gets its
 * answer within `drainMs`.
 * @throws INVALID_CONFIG when a port is taken
 */
export async function openFrontend(options: FrontendOptions): Promise<Frontend> {
  const { config, broker, store, log } = options;
  const id = options.id ?? newId();
  const folder = join(config.dataDir, 'frontend');
  const stack = new ServiceStack(config.drainMs + 5_000);
  const startedAt = Date.now();
  const clock = new ClusterClock();
  const metrics = createMetrics();
  const rpc = stack.push('rpc', openRpc({ broker, id, clock, log, limits: config }));
  const rpcMetrics = createRpcMetrics(metrics, rpc.counts);
  const waitingRoom = new WaitingRoom();
  const admission = new Admission(config);
  const routes = stack.push(
    'routes',
    new Routes({
      records: createRecords({ store, folder: join(folder, 'records'), log }),
      log,
      onTable() {
        waitingRoom.onRoutesChanged();
        membership?.reportSoon();
      },
    }),
  );
  const transferAgent = createTransferAgent();
  const deadlines = new TimerWheel(100);
  stack.push('transfers', {
    close() {
      transferAgent.destroy();
      return Promise.resolve(deadlines.close());
    },
  });
  const state = { isDraining: false };
  const context: PipelineContext = {
    routes,
    admission,
    waitingRoom,
    unread: new UnreadAnswers(),
    operators: createOperatorCheck({ store, given: config.token, log }),
    rpc,
    clock,
    stamps: new StampClock(),
    validators: new ValidatorCache(),
    metrics: createCallMetrics(metrics),
    log,
    maxBodyBytes: config.maxBodyBytes,
    directBytes: config.directThresholdBytes,
    transferAgent,
    deadlines,
    callTimeoutMs: config.callTimeoutMs,
    noRunnerMs: config.noRunnerMs,
    get isDraining() {
      return state.isDraining;
    },
  };
  const server = createFrontendServer({
    maxHeaderBytes: config.maxHeaderBytes,
    own: createOwnRoutes({ routes, operators: context.operators, unready, log }),
    calls: (req, res) => handleCall(context, req, res),
  });
  let url = '';
  let membership: Awaited<ReturnType<typeof openMembership>> | undefined;

  function unready(): readonly string[] {
    const reasons: string[] = [];
    if (state.isDraining) reasons.push('shutting down');
    if (!rpc.isReady) reasons.push(`the message broker is not ready (${broker.state})`);
    if (routes.table === undefined) reasons.push('no route table has arrived yet');
    return reasons;
  }

  function describe(): FrontendReport {
    return {
      ...memberReport({ id, startedAt, epoch: routes.table?.epoch, stopping: state.isDraining }),
      role: 'frontend',
      url,
      inFlight: routes.inFlight(),
      failures: routes.failures,
    };
  }

  try {
    await listen(server, config.httpPort, config.host, '--http-port');
    const { port } = server.address() as AddressInfo;
    url = urlOf(config.host, port);
    membership = stack.push(
      'membership',
      await openMembership({
        broker,
        store,
        id,
        clock,
        log,
        describe,
        cacheFile: join(folder, 'snapshot.json'),
        reportMs: config.reportMs,
      }),
    );
    membership.onSnapshot((snapshot) => routes.want(snapshot));
    const admin = stack.push(
      'admin',
      await openAdmin({
        host: config.adminHost,
        port: config.adminPort,
        ready: unready,
        metrics() {
          rpcMetrics.collect();
          return metrics.text();
        },
      }),
    );
    stack.push('http', {
      close() {
        state.isDraining = true;
        membership?.reportSoon();
        return drain(server, config.drainMs);
      },
    });
    log.info({ id, url, adminPort: admin.port }, 'frontend listens');
    return { id, url, port, adminPort: admin.port, close: () => stack.close() };
  } catch (error) {
    server.close();
    await stack.close();
    throw error;
  }
}

/** No new connections; those without a request end now, the others with their answer, and all of them after `drainMs`. */
async function drain(server: Server, drainMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const timer = setTimeout(() => server.closeAllConnections(), drainMs);
  await closed;
  clearTimeout(timer);
}
