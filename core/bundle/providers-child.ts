import { writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { compileFunction } from 'node:vm';
import type { ProvidersInput, ProvidersOutput } from './pack-providers.ts';
import { type AnyFunc, OPERATION_NAMES, OperationTable, readProviders } from './providers.ts';

/** The process in which `pack` runs the operation providers of a bundle: see `runProviders`. */

const ANSWER_FD = 3;
const nothing: AnyFunc = () => undefined;

async function provide({ code, document, config }: ProvidersInput): Promise<ProvidersOutput> {
  const module: { exports: unknown } = { exports: {} };
  const run = compileFunction(code, ['module', 'exports', 'require'], { filename: 'bundle.js' });
  Reflect.apply(run, module.exports, [module, module.exports, nothing]);
  const { info = {} } = document as { info?: { version?: unknown } };
  const table = new OperationTable({
    operations: () => [...OPERATION_NAMES],
    getSwagger: (given) => given,
    getVersion: () => info.version,
    dispatcherFor: nothing,
    getSerializer: nothing,
    getDeserializer: nothing,
    wrapWithMiddleware: (func) => func,
    endLife: nothing,
  });
  const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
  const setup = { config, secrets: {}, log, addEndOfLife: nothing };
  for (const provider of readProviders(module.exports)) {
    if (provider.kind === 'operation') await provider.install(table, setup);
  }
  const provided: unknown = await table.get('getSwagger')(document);
  if (typeof provided !== 'object' || provided === null) throw new TypeError('getSwagger gave no document');
  const made = provided as { info?: object };
  const version: unknown = await table.get('getVersion')();
  const whole = table.isReplaced('getVersion') ? { ...made, info: { ...made.info, version } } : made;
  return { document: whole as ProvidersInput['document'], hasDispatcher: table.isReplaced('dispatcherFor') };
}

function say(output: ProvidersOutput): void {
  const bytes = Buffer.from(JSON.stringify(output));
  for (let at = 0; at < bytes.length;) at += writeSync(ANSWER_FD, bytes, at);
}

try {
  say(await provide(JSON.parse(await text(process.stdin)) as ProvidersInput));
} catch (thrown) {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  say({ error: `${error.name}: ${error.message}`, stack: error.stack ?? '' });
}
// What a provider began must not keep `pack` waiting.
process.exit();
