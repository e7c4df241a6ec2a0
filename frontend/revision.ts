import { RpcTarget } from '../core/broker/batch.ts';
import type { BundleRecord } from '../core/bundle/manifest.ts';
import type { ApiOperation } from '../core/openapi/api.ts';
import type { RevisionState } from '../core/wire/control.ts';
import { CallFlag } from '../core/wire/envelope.ts';
import type { Admitted } from './admission.ts';

/** One revision as this frontend holds it; lives on while calls to it are in flight, whatever the route table says. */
export class Revision implements Admitted {
  readonly bundle: string;
  /** `<bundle>@<revision>`. */
  readonly key: string;
  readonly record: BundleRecord;
  readonly target: RpcTarget;
  /** By operation index. */
  readonly operations: readonly Operation[];
  /** Runners that hold it ready, as the newest snapshot says. */
  ready = 0;
  /** While all of them failed: unix ms before which none tries again; else 0. */
  retryAt = 0;
  inFlight = 0;

  constructor(bundle: string, state: RevisionState, record: BundleRecord) {
    this.bundle = bundle;
    this.key = revisionKey(bundle, state.revision);
    this.record = record;
    this.target = new RpcTarget(state.queue, state.batchMax);
    this.operations = record.api.operations.map((spec, index) => new Operation(this, index, spec));
  }
}

/** How reports name a revision. */
export function revisionKey(bundle: string, revision: string): string {
  return `${bundle}@${revision}`;
}

/** One operation of one revision: what a call needs to know of it. */
export class Operation {
  readonly revision: Revision;
  readonly index: number;
  readonly spec: ApiOperation;
  readonly callFlags: number;

  constructor(revision: Revision, index: number, spec: ApiOperation) {
    this.revision = revision;
    this.index = index;
    this.spec = spec;
    this.callFlags = spec.mayRerun ? CallFlag.mayRerun : 0;
  }
}
