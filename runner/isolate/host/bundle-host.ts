import type { Script } from 'node:vm';
import {
  Cell,
  CODE_CACHE_BYTES,
  type LoadSpec,
  Out,
  SEED_BYTES,
  type StartFailure,
  STREAM_FRAME_BYTES,
} from '../bridge.ts';
import { FrameKind } from '../channel.ts';
import { Calls } from './calls.ts';
import { LogLines } from './log-lines.ts';
import { Operations } from './operations.ts';
import type { Realm } from './realm.ts';
import { Realms } from './realms.ts';
import { Streams } from './streams.ts';
import { textOf } from './text.ts';

/** Timers run in one turn before frames are read again. */
const TIMERS_PER_TURN = 500;
/** So long after its start a bundle's code cache is made: the first calls come first, and what they ran is in it. */
const CODE_CACHE_AFTER_MS = 500;

/** Sends a frame to the runner, made of the parts. */
export type SendFrame = (kind: number, ...parts: Buffer[]) => void;

export interface BundleHostOptions {
  readonly bootstrap: Script;
  readonly send: SendFrame;
  /** Writes what was sent: the turn is over. Default: whenever `send` sees fit. */
  flush?(): void;
  /** Bytes that wait to be written. */
  backlogBytes(): number;
  /** `destroy` has run: send what there is, and end. */
  onStopped(): void;
}

/**
 * The host's side of one bundle: frames of the runner in, the guest entered, frames out. It never looks into, awaits or
 * prints a value of the guest's: whatever it touched could run the guest's code with the host's objects at hand.
 * The guest's microtasks, and what it has to say, wait for the end of the turn of the event loop, so that calls share them.
 */
export class BundleHost {
  readonly #options: BundleHostOptions;
  readonly #realms: Realms;
  readonly #calls: Calls;
  readonly #operations: Operations;
  readonly #streams: Streams;
  readonly #log: LogLines;
  #spec: LoadSpec | undefined;
  /** Their calls are answered, but for bodies that are on their way. */
  readonly #finishing = new Set<Realm>();
  #touched: Realm[] = [];
  #isTurnScheduled = false;
  #isReady = false;
  #isClosing = false;
  #timer: NodeJS.Timeout | undefined;
  #timerDueMs = Infinity;
  readonly #turn = (): void => this.#run();

  constructor(options: BundleHostOptions) {
    this.#options = options;
    const { send } = options;
    const onWork = (realm: Realm): void => this.#touch(realm);
    this.#log = new LogLines(options);
    this.#operations = new Operations(send, onWork);
    this.#realms = new Realms({
      bootstrap: options.bootstrap,
      onWork,
      waiting: () => this.#calls.waiting,
      onFailure: (realm, failure) => this.#startFailed(realm, failure),
    });
    this.#streams = new Streams({ send, onWork, onIdle: (realm) => this.#finished(realm) });
    this.#calls = new Calls({
      realms: this.#realms,
      streams: this.#streams,
      isStreaming: (operation) => this.#spec?.operations[operation]?.isDirect === true,
      directBytes: () => this.#spec?.directBytes ?? STREAM_FRAME_BYTES,
      send(tag, envelope) {
        const head = Buffer.allocUnsafe(4);
        head.writeUInt32BE(tag);
        send(FrameKind.replies, head, envelope);
      },
      onWork,
      onAnswered: (realm) => {
        if (this.#streams.has(realm)) this.#finishing.add(realm);
        else this.#release(realm);
      },
      onWoken: this.#turn,
    });
  }

  /** Takes a frame. @throws RangeError when it makes no sense */
  receive(kind: number, payload: Buffer): void {
    switch (kind) {
      case FrameKind.calls:
        this.#calls.enter(payload.readUInt32BE(0), payload.readDoubleBE(4), payload.subarray(12));
        return this.#scheduleTurn();
      case FrameKind.opResult:
        return this.#operations.settle(payload);
      case FrameKind.cancel:
        return this.#calls.cancel(payload);
      case FrameKind.ping:
        return this.#options.send(FrameKind.pong);
      case FrameKind.load:
        return this.#load(payload);
      case FrameKind.close:
        return this.#close();
      case FrameKind.streamData:
      case FrameKind.streamCredit:
      case FrameKind.streamEnd:
      case FrameKind.streamReset:
        return this.#streams.receive(kind, payload);
      default:
        throw new RangeError(`unknown kind of frame: ${kind}`);
    }
  }

  /**
   * A promise was rejected and nobody handles it. Its guest gets back what it was rejected with, and describes it: nothing
   * is read from the reason, which may be a trap. A promise of the host's realm is a defect here, and its reason must not
   * enter a guest.
   */
  onRejection(reason: unknown, promise: Promise<unknown>): void {
    if (Object.getPrototypeOf(promise) === Promise.prototype) return this.#report('a promise of the host was rejected');
    const realm = this.#realms.owner(promise);
    try {
      if (realm === undefined) return this.#report('a promise was rejected and nothing handles it');
      this.#touch(realm);
      realm.guest.stray(reason);
    } catch {
      this.#report('a promise was rejected with something that cannot be described');
    }
  }

  /** For a guest in the host's own realm (runtime `node`), whose promises settle at any time: it has put something out. */
  wake(): void {
    for (const realm of this.#realms.live) this.#touch(realm);
  }

  #finished(realm: Realm): void {
    if (this.#finishing.delete(realm)) this.#release(realm);
  }

  /** The call of a realm, and all that belongs to it, is over. */
  #release(realm: Realm): void {
    if (this.#realms.release(realm)) this.#operations.abandonAll(realm);
  }

  #load(payload: Buffer): void {
    const specEnd = SEED_BYTES + 4 + payload.readUInt32BE(SEED_BYTES);
    const spec = JSON.parse(payload.toString('utf8', SEED_BYTES + 4, specEnd)) as LoadSpec;
    const sourceAt = specEnd + (spec.codeCacheBytes ?? 0);
    const codeCache = sourceAt > specEnd ? payload.subarray(specEnd, sourceAt) : undefined;
    const source = payload.toString('utf8', sourceAt);
    this.#spec = spec;
    const failure = this.#realms.load(new Uint8Array(payload.subarray(0, SEED_BYTES)), spec, source, codeCache);
    if (failure !== undefined) this.#options.send(FrameKind.failed, Buffer.from(failure));
  }

  /** Only the one realm of `kept` has a `destroy` to run: those of `fresh` end with their calls. */
  #close(): void {
    this.#isClosing = true;
    const realm = this.#realms.kept;
    if (realm === undefined) return this.#options.onStopped();
    this.#touch(realm);
    realm.guest.destroy();
  }

  /** The guest is about to be entered: it knows the time, and its turn comes. */
  #touch(realm: Realm): void {
    realm.setNow();
    if (!realm.isTouched) this.#touched.push(realm);
    realm.isTouched = true;
    this.#scheduleTurn();
  }

  #scheduleTurn(): void {
    if (this.#isTurnScheduled) return;
    this.#isTurnScheduled = true;
    process.nextTick(this.#turn);
  }

  #run(): void {
    this.#isTurnScheduled = false;
    const touched = this.#touched;
    this.#touched = [];
    for (const realm of touched) {
      realm.isTouched = false;
      realm.setNow();
      if (!realm.isDropped) realm.tick();
      this.#takeAll(realm);
    }
    this.#operations.flush();
    this.#calls.flush();
    this.#streams.flush();
    this.#log.flush();
    this.#options.flush?.();
    this.#armTimer();
  }

  #takeAll(realm: Realm): void {
    const { guest, cells } = realm;
    for (;;) {
      const taken: unknown = guest.take();
      if (taken === undefined) return;
      const text = textOf(taken);
      switch (cells[Cell.out]) {
        case Out.reply:
        case Out.failure:
          this.#calls.takeReply(realm, text);
          break;
        case Out.log:
          this.#log.push(text);
          break;
        case Out.op:
          if (!realm.isDropped) this.#operations.begin(realm, cells[Cell.id] ?? 0, text);
          break;
        case Out.opCancel:
          this.#operations.abandon(realm, cells[Cell.id] ?? 0);
          break;
        case Out.streamData:
        case Out.streamEnd:
        case Out.streamReset:
        case Out.streamCredit:
          this.#streams.take(realm, cells[Cell.out] ?? 0, cells[Cell.id] ?? 0, text);
          break;
        case Out.started:
          this.#started(realm, text);
          break;
        case Out.stopped:
          this.#log.flush();
          this.#options.onStopped();
          break;
        default:
          throw new RangeError('the guest handed out something unknown');
      }
    }
  }

  /** `init` has ended in a realm. */
  #started(realm: Realm, failure: string): void {
    if (failure !== '') return this.#startFailed(realm, failure);
    this.#realms.loaded(realm);
    this.#calls.resume();
    if (this.#isReady) return;
    this.#isReady = true;
    this.#options.send(FrameKind.ready);
    setTimeout(() => this.#sendCodeCache(), CODE_CACHE_AFTER_MS);
  }

  #startFailed(realm: Realm, failure: string): void {
    if (!this.#isReady) return this.#options.send(FrameKind.failed, Buffer.from(failure));
    const { phase, name, message } = JSON.parse(failure) as StartFailure;
    this.#report(`a fresh context failed in ${phase}: ${name}: ${message}`);
    this.#realms.failed(realm);
    this.#operations.abandonAll(realm);
    this.#calls.failNext(`the context of the call failed in ${phase} (${name.slice(0, 100)})`);
  }

  #sendCodeCache(): void {
    if (this.#isClosing) return;
    const cache = this.#realms.codeCache();
    if (cache !== undefined && cache.length <= CODE_CACHE_BYTES) this.#options.send(FrameKind.cache, cache);
  }

  #report(message: string): void {
    this.#log.report(message);
    this.#scheduleTurn();
  }

  /** One timer for those of all guests. */
  #armTimer(): void {
    let dueMs = Infinity;
    for (const realm of this.#realms.live) if (realm.timerDueMs < dueMs) dueMs = realm.timerDueMs;
    if (dueMs === this.#timerDueMs) return;
    clearTimeout(this.#timer);
    this.#timerDueMs = dueMs;
    if (dueMs < Infinity) this.#timer = setTimeout(() => this.#runTimers(), Math.max(0, dueMs - performance.now()));
  }

  #runTimers(): void {
    this.#timerDueMs = Infinity;
    const now = performance.now();
    for (const realm of this.#realms.live) {
      if (realm.timerDueMs > now) continue;
      this.#touch(realm);
      let isMore = 1;
      for (let count = 0; isMore === 1 && count < TIMERS_PER_TURN; count++) {
        isMore = realm.guest.timer();
        realm.tick();
      }
    }
    this.#run();
  }
}
