import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Script } from 'node:vm';
import { FrameKind } from '../isolate/channel.ts';
import { guest } from '../isolate/guest.inside.ts';
import { reportUncaught } from '../isolate/guest/log.ts';
import { watchPuts } from '../isolate/guest/outbox.ts';
import { BundleHost } from '../isolate/host/bundle-host.ts';
import { openChannel } from '../isolate/host/fd-channel.ts';
import { loadModule } from './node-inside/compile.ts';
import { setFolder } from './node-inside/stack.ts';

/**
 * The process a worker of the `node` runtime is: `node node.cjs FOLDER ENTRY`. The bundle is an ordinary module, and what
 * calls its funcs is the host and the guest of the js isolate, here in one realm: there is no wall inside this process,
 * the walls are Node's permission model and the process itself. tools/build-inside.mjs puts what lies in node-inside/ in
 * the place of files of the same name: the realm, how a bundle is loaded, and what Node has better of its own.
 */

/** Longest frame accepted: a batch of calls, or the result of an operation. */
const MAX_FRAME_BYTES = 16 * 1024 * 1024;
/** How long the last lines of a process that is about to end may take to leave it. */
const LAST_WORDS_MS = 200;

const [folder = '', entry = ''] = process.argv.slice(2);
// A bundle that looks finds an ordinary command line.
process.argv.splice(1, Infinity, join(folder, entry));

const channel = openChannel(MAX_FRAME_BYTES, {
  onFrame,
  // The runner is gone, or speaks nonsense: there is nothing left to work for.
  onEnd: () => process.exit(0),
});
const host = new BundleHost({
  bootstrap: new Script(''),
  send: channel.send.bind(channel),
  backlogBytes: () => channel.backlogBytes,
  onStopped: () => channel.end(() => process.exit(0)),
});
watchPuts(() => host.wake());
setFolder(join(folder, '/'));
offerSdk();
process.on('unhandledRejection', (reason) => guest.stray(reason));
process.on('uncaughtException', (error) => {
  reportUncaught('the process, which ends', error);
  setTimeout(() => process.exit(1), LAST_WORDS_MS);
  setImmediate(() => channel.end(() => process.exit(1)));
});
channel.send(FrameKind.hello);

function onFrame(kind: number, payload: Buffer): void {
  if (kind === FrameKind.load) void load(payload);
  else host.receive(kind, payload);
}

async function load(payload: Buffer): Promise<void> {
  await loadModule(folder, entry);
  host.receive(FrameKind.load, payload);
}

/** `import … from 'funcatron'` finds the sdk where the bundle has not installed it. */
function offerSdk(): void {
  const sdk = pathToFileURL(join(__dirname, 'sdk.mjs')).href;
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier !== 'funcatron') return next(specifier, context);
      try {
        return next(specifier, context);
      } catch {
        return { url: sdk, format: 'module', shortCircuit: true };
      }
    },
  });
}
