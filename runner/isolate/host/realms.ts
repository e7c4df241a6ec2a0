import type { Script } from 'node:vm';
import { fillRandom, seedRandom } from '../guest/random.ts';
import { type LoadSpec, MAX_REALMS, SEED_BYTES, type StartFailure } from '../bridge.ts';
import { type Bundle, compileBundle } from './compile.ts';
import { createRealm, type Realm } from './realm.ts';

export interface RealmsOptions {
  readonly bootstrap: Script;
  /** The realm has work. */
  onWork(realm: Realm): void;
  /** How many calls wait for a realm. */
  waiting(): number;
  /** Another realm than the first did not come up: a `StartFailure` as JSON. */
  onFailure(realm: Realm, failure: string): void;
}

/**
 * The realms one bundle runs in. `state: kept`: one, for every call. `state: fresh`: one a call, each with the bundle and
 * its `init` run anew; one more than is needed is made ahead between the turns, and at most `MAX_REALMS` exist.
 */
export class Realms {
  readonly live = new Set<Realm>();
  readonly #options: RealmsOptions;
  /** Loaded or being loaded, and without a call. */
  readonly #spare: Realm[] = [];
  readonly #byPromises = new WeakMap<object, Realm>();
  #bundle: Bundle | undefined;
  #json = '';
  #isFresh = false;
  /** The last realm did not come up: none is made ahead. */
  #isFailing = false;
  #isMaking = false;

  constructor(options: RealmsOptions) {
    this.#options = options;
    // Ahead of the bundle: a process that waits for one has its realm already.
    this.#spare.push(this.#create());
  }

  /** Loads the bundle in the first realm: a `StartFailure` as JSON, or `undefined`, and then `init` is under way. */
  load(seed: Uint8Array, spec: LoadSpec, source: string, cachedData: Buffer | undefined): string | undefined {
    const [realm] = this.#spare;
    if (realm === undefined || this.#bundle !== undefined) throw new Error('loaded twice');
    seedRandom(seed);
    this.#json = JSON.stringify(spec);
    this.#isFresh = spec.state === 'fresh';
    this.#setup(realm);
    const bundle = compileBundle(source, cachedData, realm);
    if ('phase' in bundle) return JSON.stringify(bundle);
    this.#bundle = bundle;
    return this.#start(realm, bundle);
  }

  /** The one realm of `state: kept`. */
  get kept(): Realm | undefined {
    return this.#isFresh ? undefined : this.#spare[0];
  }

  /** See `Bundle.cache`. */
  codeCache(): Buffer | undefined {
    return this.#bundle?.cache();
  }

  /** The realm for a call: `undefined` while there is none, and then one is on its way. */
  take(): Realm | undefined {
    if (!this.#isFresh) return this.#spare[0];
    const at = this.#spare.findIndex((realm) => realm.isLoaded);
    const [realm] = at < 0 ? [] : this.#spare.splice(at, 1);
    this.makeSoon();
    return realm;
  }

  /** Puts back a realm that no call has entered. */
  giveBack(realm: Realm): void {
    if (this.#isFresh) this.#spare.push(realm);
  }

  /** Its call has been answered. Says whether the realm is gone with it. */
  release(realm: Realm): boolean {
    if (!this.#isFresh) return false;
    this.#drop(realm);
    this.makeSoon();
    return true;
  }

  /** The bundle did not come up in a realm that was made for a call. */
  failed(realm: Realm): void {
    this.#isFailing = true;
    const at = this.#spare.indexOf(realm);
    if (at >= 0) this.#spare.splice(at, 1);
    this.#drop(realm);
    this.makeSoon();
  }

  /** The bundle has come up in it. */
  loaded(realm: Realm): void {
    this.#isFailing = false;
    realm.isLoaded = true;
  }

  /** Whose promise it is, where nobody has replaced its prototype. */
  owner(promise: object): Realm | undefined {
    // A promise is no proxy: this runs no code of the guest's.
    const prototype = Object.getPrototypeOf(promise) as object | null;
    const owner = prototype === null ? undefined : this.#byPromises.get(prototype);
    if (owner !== undefined || this.#isFresh) return owner;
    return this.#spare[0];
  }

  #create(): Realm {
    const realm = createRealm(this.#options.bootstrap);
    this.live.add(realm);
    this.#byPromises.set(realm.guest.promises, realm);
    return realm;
  }

  #drop(realm: Realm): void {
    realm.isDropped = true;
    realm.isLoaded = false;
    this.live.delete(realm);
  }

  #setup(realm: Realm): void {
    const seed = new Uint8Array(SEED_BYTES);
    fillRandom(seed);
    realm.window.set(seed);
    realm.startClock();
    realm.guest.setup(this.#json, Date.now());
  }

  #start(realm: Realm, bundle: Bundle): string | undefined {
    let failure: string;
    try {
      failure = realm.guest.evaluate(bundle.in(realm));
    } catch {
      failure = OVERFLOW;
    }
    if (failure !== '') return failure;
    realm.guest.init();
    this.#options.onWork(realm);
    return undefined;
  }

  /** One at a time, each behind what else there is to do: frames are read and answers sent in between. */
  makeSoon(): void {
    if (this.#isMaking || !this.#isWanted()) return;
    this.#isMaking = true;
    setImmediate(() => this.#make());
  }

  #make(): void {
    this.#isMaking = false;
    if (this.#bundle === undefined || !this.#isWanted()) return;
    const realm = this.#create();
    this.#spare.push(realm);
    this.#setup(realm);
    const failure = this.#start(realm, this.#bundle);
    if (failure !== undefined) this.#options.onFailure(realm, failure);
    this.makeSoon();
  }

  #isWanted(): boolean {
    const waiting = this.#options.waiting();
    const wanted = waiting > 0 || !this.#isFailing ? waiting + 1 : 0;
    return this.#spare.length < wanted && this.live.size < MAX_REALMS;
  }
}

const OVERFLOW = JSON.stringify({
  phase: 'load',
  name: 'RangeError',
  message: 'the bundle overflowed the stack',
  stack: '',
} satisfies StartFailure);
