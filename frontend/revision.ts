import { deflateRawSync, inflateRawSync } from 'node:zlib';
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
  readonly host: string | undefined;
  readonly basePath: string;
  readonly target: RpcTarget;
  /** By operation index. */
  readonly operations: readonly Operation[];
  /** Runners that hold it ready, as the newest snapshot says. */
  ready = 0;
  /** While all of them failed: unix ms before which none tries again; else 0. */
  retryAt = 0;
  inFlight = 0;
  readonly #packed: Buffer;

  constructor(bundle: string, state: RevisionState, record: BundleRecord) {
    this.bundle = bundle;
    this.key = revisionKey(bundle, state.revision);
    this.host = record.api.host;
    this.basePath = record.api.basePath;
    this.target = new RpcTarget(state.queue, state.batchMax);
    this.operations = record.api.operations.map((spec, index) => new Operation(this, index, spec));
    this.#packed = ofItsOwn(deflateRawSync(JSON.stringify(record), { level: 1 }));
  }

  /**
   * What Tron stored, unpacked anew each time: parsed, schemas and all, 1 000 quiet bundles of ten operations would be
   * 25 MB of heap that every collection walks through. Validators keep what they need.
   */
  get record(): BundleRecord {
    return JSON.parse(inflateRawSync(this.#packed).toString()) as BundleRecord;
  }
}

/** How reports name a revision. */
export function revisionKey(bundle: string, revision: string): string {
  return `${bundle}@${revision}`;
}

/** What a call needs to know of its operation before it is validated. */
type OperationSpec = Pick<
  ApiOperation,
  'operationId' | 'method' | 'path' | 'http' | 'timeoutMs' | 'validateResponses' | 'direct' | 'maxBodyBytes'
>;

/** One operation of one revision. */
export class Operation {
  readonly revision: Revision;
  readonly index: number;
  readonly spec: OperationSpec;
  readonly callFlags: number;

  constructor(revision: Revision, index: number, spec: ApiOperation) {
    this.revision = revision;
    this.index = index;
    this.spec = specOf(spec);
    this.callFlags = spec.mayRerun ? CallFlag.mayRerun : 0;
  }
}

function specOf(operation: ApiOperation): OperationSpec {
  const { operationId, method, path, http, timeoutMs, validateResponses, direct, maxBodyBytes } = operation;
  return {
    operationId,
    method,
    path,
    http,
    timeoutMs,
    validateResponses,
    ...(direct === undefined ? {} : { direct }),
    ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
  };
}

/** A copy in memory of its own: zlib's result is a part of 16 KB, and a pool would be kept whole for it. */
function ofItsOwn(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
