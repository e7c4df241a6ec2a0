import type { Report, Snapshot } from './control.ts';

/**
 * Reads what came as a snapshot or a report. Everybody with credentials for the broker can send one, and a role acts
 * on it, hands parts of it on and keeps it on its disk: so it is taken whole or not at all.
 */

/** The snapshot in a message, or `undefined` when it is none of this version. */
export function parseSnapshot(body: Buffer): Snapshot | undefined {
  const value = parse(body);
  return isSnapshot(value) ? value : undefined;
}

/** The report in a message, or `undefined` when it is none of this version. */
export function parseReport(body: Buffer): Report | undefined {
  const value = parse(body);
  return isReport(value) ? value : undefined;
}

function isSnapshot(value: unknown): value is Snapshot {
  return (
    isRecord(value) &&
    value['v'] === 1 &&
    isEpoch(value['epoch']) &&
    isTime(value['sentAt']) &&
    isText(value['leader']) &&
    isListOf(value['bundles'], isBundleState)
  );
}

function isBundleState(value: unknown): boolean {
  return (
    isRecord(value) &&
    isText(value['name']) &&
    /^[a-z0-9-]{1,63}$/.test(value['name']) &&
    (value['host'] === undefined || isText(value['host'])) &&
    isText(value['basePath']) &&
    isWeights(value['weights']) &&
    isText(value['eventQueue']) &&
    isListOf(value['revisions'], isRevisionState)
  );
}

function isRevisionState(value: unknown): boolean {
  return (
    isRecord(value) &&
    isText(value['revision']) &&
    isText(value['digest']) &&
    // Files are named after it.
    /^[0-9a-f]{64}$/.test(value['digest']) &&
    isText(value['queue']) &&
    isCount(value['batchMax']) &&
    isListOf(value['runners'], isText) &&
    isCount(value['ready']) &&
    (value['retryAt'] === undefined || isTime(value['retryAt'])) &&
    (value['phase'] === 'loading' || value['phase'] === 'serving' || value['phase'] === 'draining') &&
    (value['workers'] === undefined || isWorkers(value['workers']))
  );
}

/** Whether it says how many workers a runner should have, as `scale` does. */
export function isWorkers(value: unknown): boolean {
  return isRecord(value) && Number.isSafeInteger(value['min']) && Number.isSafeInteger(value['max']);
}

/** Whether it says how calls are shared among revisions. */
export function isWeights(value: unknown): boolean {
  return isRecordOf(value, isCount);
}

function isReport(value: unknown): value is Report {
  return (
    isRecord(value) &&
    value['v'] === 1 &&
    isText(value['id']) &&
    isText(value['version']) &&
    isText(value['hostname']) &&
    isCount(value['pid']) &&
    isTime(value['startedAt']) &&
    isTime(value['sentAt']) &&
    isEpoch(value['epoch']) &&
    typeof value['stopping'] === 'boolean' &&
    (value['role'] === 'runner' ? isRunnersPart(value) : isFrontendsPart(value))
  );
}

function isRunnersPart(value: Fields): boolean {
  return (
    (value['directUrl'] === undefined || isText(value['directUrl'])) && isListOf(value['revisions'], isHeldRevision)
  );
}

function isFrontendsPart(value: Fields): boolean {
  return (
    value['role'] === 'frontend' &&
    isText(value['url']) &&
    isRecordOf(value['inFlight'], isCount) &&
    isRecordOf(value['failures'], isText)
  );
}

function isHeldRevision(value: unknown): boolean {
  return (
    isRecord(value) &&
    isText(value['bundle']) &&
    isText(value['revision']) &&
    (value['state'] === 'loading' || value['state'] === 'ready' || value['state'] === 'failed') &&
    isCount(value['workers']) &&
    isCount(value['inFlight']) &&
    (value['bounds'] === undefined || isWorkers(value['bounds'])) &&
    (value['restarts'] === undefined || isCount(value['restarts'])) &&
    (value['events'] === undefined || isRunningEvents(value['events'])) &&
    (value['since'] === undefined || isTime(value['since'])) &&
    (value['retryAt'] === undefined || isTime(value['retryAt'])) &&
    (value['error'] === undefined ||
      (isRecord(value['error']) && isText(value['error']['code']) && isText(value['error']['message'])))
  );
}

function isRunningEvents(value: unknown): boolean {
  return isRecord(value) && isCount(value['running']) && isTime(value['since']);
}

/** Terms are unix seconds, or a little more: see protocol §4.1. */
const MAX_TERM_AHEAD = 2 ** 32;

/**
 * No leader could go beyond a term that is as large as numbers get, so such a one is not believed. What is believed
 * grows with time: whoever was brought to the limit is heard again a second later.
 */
function isEpoch(value: unknown): boolean {
  if (!isText(value) || !/^\d{1,15}\.\d{1,15}$/.test(value)) return false;
  return Number(value.slice(0, value.indexOf('.'))) < Date.now() / 1_000 + MAX_TERM_AHEAD;
}

type Fields = Readonly<Record<string, unknown>>;

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString()) as unknown;
  } catch {
    return undefined; // Not JSON: no message of ours.
  }
}

function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

/** A number of something, or a weight: finite and not negative. */
function isCount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

/** Unix ms that `Date` takes. ECMA-262 §21.4.1.1. */
function isTime(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= 8.64e15;
}

function isListOf(value: unknown, isItem: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(isItem);
}

/** Whether every value of a record is one. */
function isRecordOf(value: unknown, isItem: (item: unknown) => boolean): boolean {
  return isRecord(value) && Object.values(value).every(isItem);
}
