import { console } from '../../isolate/guest/log.ts';
import { hideStacks } from './stack.ts';

/** What a func of the `node` runtime finds on `globalThis`: all that Node has, with a `console` whose lines have a level and a call. */
export function installGlobals(): void {
  Object.assign(globalThis.console, console);
}

/** `stackTraces: false`: errors keep their stacks, the log goes without. */
export const closeErrors = hideStacks;
