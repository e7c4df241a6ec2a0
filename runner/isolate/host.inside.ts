import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { type BundleFunction, Cell, Clock, Out, SEED_BYTES, type StartFailure } from './bridge.ts';
import { Channel, FrameKind } from './channel.ts';
import { Calls } from './host/calls.ts';
import { compileSafely } from './host/compile.ts';
import { LogLines } from './host/log-lines.ts';
import { lockProcess } from './host/lock.ts';
import { Operations } from './host/operations.ts';
import { createRealm } from './host/realm.ts';

/**
 * The process a worker runs in: a locked-down child of the runner that holds one guest. It reads frames on fd 3, enters
 * the guest, and sends what the guest has for it. Built by tools/build-inside.mjs.
 * The host never looks into, awaits or prints a value of the guest's: whatever it touched could run the guest's code with
 * the host's objects at hand.
 */

/** Longest frame the child accepts: a bundle of 64 MiB with its spec. */
const MAX_FRAME_BYTES = 80 * 1024 * 1024;
/** Timers run in one turn before frames are read again. */
const TIMERS_PER_TURN = 500;

const inside = __dirname;
const startedMs = performance.now();

process.on('unhandledRejection', onRejection);
// Every entry into the guest catches for itself, so this is memory that ran out or a defect of ours: calls would wait for
// nothing. The error may be the guest's and is never touched.
process.on('uncaughtException', () => process.exit(1));

const realm = createRealm(readFileSync(join(inside, 'guest.js'), 'utf8'), readCache(join(inside, 'guest.cache')));
const { guest, cells, clocks } = realm;
const channel = new Channel(new Socket({ fd: 3, readable: true, writable: true }), MAX_FRAME_BYTES, {
  onFrame,
  // The runner is gone, or speaks nonsense: there is nothing left to work for.
  onEnd: () => process.exit(0),
});
const calls = new Calls(realm, (tag, envelope) => {
  const head = Buffer.allocUnsafe(4);
  head.writeUInt32BE(tag);
  channel.send(FrameKind.replies, head, envelope);
});
calls.onAborted = turn;
const operations = new Operations(realm, channel, scheduleTurn);
const log = new LogLines(channel);
let isTurnScheduled = false;
let timer: NodeJS.Timeout | undefined;
let timerDueMs = Infinity;

lockProcess();
channel.send(FrameKind.hello);

function readCache(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined; // slower, not worse
  }
}

function onFrame(kind: number, payload: Buffer): void {
  setNow();
  try {
    dispatch(kind, payload);
  } catch {
    // A frame that makes no sense: whoever is there, it is not our runner.
    process.exit(1);
  }
}

function dispatch(kind: number, payload: Buffer): void {
  switch (kind) {
    case FrameKind.calls:
      calls.enter(payload.readUInt32BE(0), payload.readDoubleBE(4), payload.subarray(12));
      return scheduleTurn();
    case FrameKind.opResult:
      operations.settle(payload);
      return scheduleTurn();
    case FrameKind.cancel:
      calls.cancel(payload);
      return scheduleTurn();
    case FrameKind.ping:
      return channel.send(FrameKind.pong);
    case FrameKind.load:
      return load(payload);
    case FrameKind.close:
      guest.destroy();
      return scheduleTurn();
    default:
      throw new RangeError(`unknown kind of frame: ${kind}`);
  }
}

/** The guest's microtasks and what it has to say wait for the end of this turn of the event loop, so that calls share them. */
function scheduleTurn(): void {
  if (isTurnScheduled) return;
  isTurnScheduled = true;
  process.nextTick(turn);
}

function turn(): void {
  isTurnScheduled = false;
  setNow();
  realm.tick();
  takeAll();
  calls.flush();
  log.flush();
  armTimer();
}

function setNow(): void {
  clocks[Clock.nowMs] = Math.floor(performance.now() - startedMs);
}

function takeAll(): void {
  for (;;) {
    const text = guest.take();
    if (text === undefined) return;
    switch (cells[Cell.out]) {
      case Out.reply:
      case Out.failure:
        calls.takeReply(text);
        break;
      case Out.log:
        log.push(text);
        break;
      case Out.op:
        operations.begin(cells[Cell.id] ?? 0, text);
        break;
      case Out.opCancel:
        operations.abandon(cells[Cell.id] ?? 0);
        break;
      case Out.started:
        if (text === '') channel.send(FrameKind.ready);
        else channel.send(FrameKind.failed, Buffer.from(text));
        break;
      case Out.stopped:
        log.flush();
        channel.end(() => process.exit(0));
        break;
      default:
        process.exit(1);
    }
  }
}

/**
 * The guest gets back what its own promise was rejected with, and describes it. Nothing is read from the reason, which
 * may be a trap; a promise of the host's realm is a defect here, and its reason must not enter the guest.
 */
function onRejection(reason: unknown, promise: Promise<unknown>): void {
  if (Object.getPrototypeOf(promise) === Promise.prototype) return reportStray('a promise of the host was rejected');
  try {
    guest.stray(reason);
  } catch {
    reportStray('a promise was rejected with something that cannot be described');
  }
  scheduleTurn();
}

function reportStray(message: string): void {
  log.report(message);
  scheduleTurn();
}

function armTimer(): void {
  const dueMs = clocks[Clock.timerDueMs] ?? Infinity;
  if (dueMs === timerDueMs) return;
  clearTimeout(timer);
  timerDueMs = dueMs;
  if (dueMs < Infinity) timer = setTimeout(runTimers, dueMs - (clocks[Clock.nowMs] ?? 0));
}

function runTimers(): void {
  timerDueMs = Infinity;
  setNow();
  let isMore = 1;
  for (let count = 0; isMore === 1 && count < TIMERS_PER_TURN; count++) {
    isMore = guest.timer();
    realm.tick();
  }
  turn();
}

function load(payload: Buffer): void {
  payload.copy(realm.window, 0, 0, SEED_BYTES);
  const specEnd = SEED_BYTES + 4 + payload.readUInt32BE(SEED_BYTES);
  const json = payload.toString('utf8', SEED_BYTES + 4, specEnd);
  guest.setup(json, Date.now());
  const compiled = compileSafely(payload.toString('utf8', specEnd), realm);
  if (typeof compiled !== 'function') return fail(compiled);
  const failure = evaluate(compiled);
  if (failure !== '') channel.send(FrameKind.failed, Buffer.from(failure));
  else guest.init();
  scheduleTurn();
}

function evaluate(bundle: BundleFunction): string {
  try {
    return guest.evaluate(bundle);
  } catch {
    return JSON.stringify({ phase: 'load', name: 'RangeError', message: 'the bundle overflowed the stack', stack: '' });
  }
}

function fail(failure: StartFailure): void {
  channel.send(FrameKind.failed, Buffer.from(JSON.stringify(failure)));
}
