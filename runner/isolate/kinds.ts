import type { Manifest } from '../../core/bundle/manifest.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { IsolateKind } from './isolate.ts';
import { createProcessIsolate } from './process.ts';

/** What the kinds of isolates are made of. */
export interface KindOptions {
  readonly log: Log;
  readonly allowWeakIsolation: boolean;
}

/** Where the funcs of bundles run on this runner. */
export interface Kinds extends Closable {
  /** @throws INVALID_BUNDLE when this runner does not run what the manifest asks for */
  of(manifest: Pick<Manifest, 'runtime' | 'isolation'>): IsolateKind;
}

/** By isolation for `js`, by runtime for everything else. A kind is made when the first bundle needs it. */
const KINDS: Readonly<Record<string, (options: KindOptions) => IsolateKind>> = {
  process: createProcessIsolate,
};

export function createKinds(options: KindOptions): Kinds {
  const made = new Map<string, IsolateKind>();
  return {
    of({ runtime, isolation }) {
      const name = runtime === 'js' ? isolation : runtime;
      const create = KINDS[name];
      if (create === undefined) {
        const asked = runtime === 'js' ? `isolation ${isolation}` : `runtime ${runtime}`;
        throw new FuncatronError('INVALID_BUNDLE', `this runner has no ${asked}`);
      }
      const kind = made.get(name) ?? create(options);
      made.set(name, kind);
      return kind;
    },
    async close() {
      await Promise.all([...made.values()].map(async (kind) => await kind.close?.()));
    },
  };
}
