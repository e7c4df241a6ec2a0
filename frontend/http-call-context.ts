import type { Rpc } from '../core/broker/rpc.ts';
import type { ClusterClock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { StampClock } from '../core/stamp-clock.ts';
import type { CallMetrics } from './call-metrics.ts';
import type { Routes } from './routes.ts';
import type { ValidatorCache } from './validators.ts';
import type { Admission, WaitingRoom } from './admission.ts';
import type { DirectContext } from './direct.ts';

/** What a call needs of its frontend. */
export interface HttpCallContext extends DirectContext {
  readonly routes: Routes;
  readonly admission: Admission;
  readonly waitingRoom: WaitingRoom;
  readonly rpc: Rpc;
  readonly clock: Pick<ClusterClock, 'now' | 'offsetMs'>;
  readonly stamps: StampClock;
  readonly validators: ValidatorCache;
  readonly metrics: CallMetrics;
  readonly log: Log;
  /** Of an operation that names none. */
  readonly maxBodyBytes: number;
  /** Longer bodies go direct. */
  readonly directBytes: number;
  /** For an operation that names no timeout. */
  readonly callTimeoutMs: number;
  readonly noRunnerMs: number;
  /** Closing: calls that arrive now are refused, and connections end with their answer. */
  readonly isDraining: boolean;
}
