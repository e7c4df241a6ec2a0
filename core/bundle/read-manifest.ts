import schema from '../../swagger/funcatron.schema.json' with { type: 'json' };
import type { Problem } from '../errors.ts';
import type { Json, JsonObject } from '../openapi/api.ts';
import { memberOf, objectAt, pointerTo, textAt } from '../openapi/json.ts';
import { nearestWord } from '../openapi/nearest.ts';
import { createSettingsReader, type SettingsReader } from '../openapi/settings.ts';
import type { Manifest, Permissions } from './manifest.ts';
import { SERVICE_TYPES } from './service-settings.ts';

/** What `x-funcatron` says of one operation, the top of the document counted in. */
export interface OperationSettings {
  readonly handler: string | undefined;
  readonly timeoutMs: number;
  /** `undefined`: by the method. */
  readonly idempotent: boolean | undefined;
  readonly validateResponses: boolean;
  readonly http: boolean;
  /** Bodies come piece by piece, whatever their length. */
  readonly direct: boolean;
  /** Longest body of a call; `undefined`: as the frontend says, and without a limit where `direct`. */
  readonly maxBodyBytes: number | undefined;
}

/** What `x-funcatron` at the top of a document says, and what is wrong with it. */
export interface ManifestReading {
  readonly manifest: Manifest;
  /** Without port; `undefined` answers every host. */
  readonly host: string | undefined;
  readonly problems: readonly Problem[];
  /** Settings of one operation; adds what is wrong with them to `problems`. */
  operation(operation: JsonObject, pointer: string, problems: Problem[]): OperationSettings;
}

/** The key of every extension. */
const EXTENSION = 'x-funcatron';
/** A call over HTTP holds a delivery, and RabbitMQ closes the channel of one held for 30 minutes. Protocol §1.9. */
const MAX_HTTP_TIMEOUT_MS = 900_000;
const NAME_LENGTH = 63;
const DEFAULT_MAX_WORKERS = 2;
/** Calls at once in one worker, where the runtime is not made for as many as the schema says. */
const CONCURRENCY: Partial<Record<Manifest['runtime'], number>> = { http: 1, default: 4, python: 1 };

/** Keys that only some runtimes know what to do with. */
const KEYS_OF: Readonly<Record<string, readonly Manifest['runtime'][]>> = {
  permissions: ['node'],
  services: ['js', 'node', 'python'],
};
const RUNTIMES: readonly string[] = ['js', 'node', 'http', 'default', 'python'] satisfies Manifest['runtime'][];

let settings: SettingsReader | undefined;

/**
 * Reads `x-funcatron` against `swagger/funcatron.schema.json`, which is the complete list of its keys. A value that is
 * refused is in `problems`; the manifest then holds something in its place and must not be used.
 */
export function readManifest(document: JsonObject): ManifestReading {
  settings ??= createSettingsReader(schema);
  const read = settings;
  const { value, problems: found } = read('bundle', memberOf(document, EXTENSION), pointerTo('', EXTENSION));
  const problems = [...found];
  const name = textAt(value, 'name') ?? slug(textAt(objectAt(document, 'info'), 'title') ?? '');
  if (name === '') {
    const hint = 'Write one under x-funcatron. For example name: pet-shop';
    problems.push({
      message: 'info.title has nothing a name can be made of',
      pointer: pointerTo('', EXTENSION, 'name'),
      hint,
    });
  }
  const workers = objectAt(value, 'workers');
  const min = numberAt(workers, 'min', 1);
  const max = numberAt(workers, 'max', Math.max(min, DEFAULT_MAX_WORKERS));
  if (max < min) {
    problems.push({
      message: `workers.max ${max} is below workers.min ${min}`,
      pointer: pointerTo('', EXTENSION, 'workers', 'max'),
      hint: 'Raise max, or lower min.',
    });
  }
  const runtime = memberOf(value, 'runtime') as Manifest['runtime'];
  const written = objectAt(document, EXTENSION);
  problems.push(...problemsOfProgram(runtime, written), ...problemsOfKeys(runtime, written));
  const manifest: Manifest = {
    name,
    runtime,
    entry: textAt(written, 'entry') ?? (runtime === 'python' ? 'main:handler' : 'index.ts'),
    isolation: memberOf(value, 'isolation') as Manifest['isolation'],
    memoryMb: numberAt(value, 'memoryMb', 0),
    concurrency: numberAt(written, 'concurrency', CONCURRENCY[runtime] ?? numberAt(value, 'concurrency', 1)),
    workers: { min, max },
    idleTimeoutS: numberAt(value, 'idleTimeoutS', 0),
    state: memberOf(value, 'state') as Manifest['state'],
    config: objectAt(value, 'config'),
    services: readServices(read, objectAt(value, 'services'), problems),
    fetchAllow: textsAt(objectAt(value, 'fetch'), 'allow'),
    secrets: textsAt(value, 'secrets'),
    logLevel: memberOf(value, 'logLevel') as Manifest['logLevel'],
    stackTraces: memberOf(value, 'stackTraces') === true,
    permissions: permissionsAt(value),
  };
  return {
    manifest,
    host: textAt(value, 'host') ?? textAt(document, 'host'),
    problems,
    operation: (operation, pointer, into) => readOperation(read, value, operation, pointer, into),
  };
}

/** What a program that is run by its command line has to say for itself. */
function problemsOfProgram(runtime: Manifest['runtime'], written: JsonObject): Problem[] {
  if (runtime !== 'http' && runtime !== 'default') return [];
  const problems: Problem[] = [];
  const problemAt = (key: string, message: string, hint: string): void => {
    problems.push({ message, pointer: pointerTo('', EXTENSION, key), hint });
  };
  if ((textAt(written, 'entry') ?? '').trim() === '') {
    const hint = 'Write the command line, such as `python3 main.py` or `./run`.';
    problemAt('entry', `runtime ${runtime} has to be told what to run`, hint);
  }
  if (runtime === 'http' && numberAt(written, 'concurrency', 1) !== 1) {
    const hint = 'Write workers.max for how many programs may run side by side.';
    problemAt('concurrency', 'a program of runtime http takes one call at a time', hint);
  }
  return problems;
}

/** Each service by the definition of its type. */
function readServices(read: SettingsReader, given: JsonObject, problems: Problem[]): Manifest['services'] {
  const services: Record<string, JsonObject> = {};
  for (const name of Object.keys(given)) {
    const settings = objectAt(given, name);
    const type = textAt(settings, 'type');
    if (type === undefined) continue; // Among the problems already.
    const pointer = pointerTo('', EXTENSION, 'services', name);
    if (!SERVICE_TYPES.some((known) => known === type)) {
      const nearest = nearestWord(type, SERVICE_TYPES);
      // Any other type may be one that a provider of the bundle makes; its worker knows when it starts.
      if (nearest === undefined) services[name] = settings;
      else {
        const hint = `Did you mean ${nearest}?`;
        problems.push({ message: `${type} is not a type of service`, pointer: pointerTo(pointer, 'type'), hint });
      }
      continue;
    }
    const { value, problems: found } = read(`${type}Service`, settings, pointer);
    problems.push(...found);
    services[name] = value;
  }
  return services as unknown as Manifest['services'];
}

function readOperation(
  read: SettingsReader,
  top: JsonObject,
  operation: JsonObject,
  pointer: string,
  problems: Problem[],
): OperationSettings {
  const at = pointerTo(pointer, EXTENSION);
  const { value, problems: found } = read('operation', memberOf(operation, EXTENSION), at);
  problems.push(...found);
  const near = (key: string): Json | undefined => memberOf(value, key) ?? memberOf(top, key);
  const idempotent = memberOf(value, 'idempotent');
  const reading: OperationSettings = {
    handler: textAt(value, 'handler'),
    timeoutMs: Number(near('timeoutMs')),
    idempotent: typeof idempotent === 'boolean' ? idempotent : undefined,
    validateResponses: near('validateResponses') === true,
    http: near('http') !== false,
    direct: near('direct') === true,
    maxBodyBytes: near('maxBodyBytes') === undefined ? undefined : Number(near('maxBodyBytes')),
  };
  if (reading.http && (reading.timeoutMs === 0 || reading.timeoutMs > MAX_HTTP_TIMEOUT_MS)) {
    const message = `timeoutMs ${reading.timeoutMs} is not 1 … ${MAX_HTTP_TIMEOUT_MS}, which an HTTP operation may take`;
    const hint = 'Write http: false where the operation is reached over the queue only.';
    const own = memberOf(value, 'timeoutMs') !== undefined;
    problems.push({ message, pointer: pointerTo(own ? at : pointerTo('', EXTENSION), 'timeoutMs'), hint });
  }
  return reading;
}

/** @example slug('Pet Store (v2)') // 'pet-store-v2' */
function slug(title: string): string {
  const words = title
    .normalize('NFKD')
    .toLowerCase()
    .replaceAll(/\p{M}/gu, '')
    .replaceAll(/[^a-z0-9]+/g, '-');
  return words.replace(/^-/, '').slice(0, NAME_LENGTH).replace(/-$/, '');
}

function numberAt(value: JsonObject, key: string, otherwise: number): number {
  const number = memberOf(value, key);
  return typeof number === 'number' ? number : otherwise;
}

function problemsOfKeys(runtime: Manifest['runtime'], written: JsonObject): Problem[] {
  if (!RUNTIMES.includes(runtime)) return []; // Among the problems already.
  const problems = Object.entries(KEYS_OF).flatMap(([key, runtimes]): Problem[] => {
    if (runtimes.includes(runtime) || Object.keys(objectAt(written, key)).length === 0) return [];
    const message = `${key} mean nothing to runtime ${runtime}`;
    const hint = `Remove them; ${runtimes.join(', ')} bundles have ${key}.`;
    return [{ message, pointer: pointerTo('', EXTENSION, key), hint }];
  });
  if (textAt(written, 'state') === 'fresh' && runtime !== 'js' && runtime !== 'default') {
    const message = `state fresh is not to be had from runtime ${runtime}: its program is loaded once`;
    problems.push({ message, pointer: pointerTo('', EXTENSION, 'state'), hint: 'Remove it.' });
  }
  // Said aloud: who writes strict relies on a wall that no other runtime has.
  const isolation = textAt(written, 'isolation');
  if (isolation !== undefined && runtime !== 'js') {
    const message = `isolation ${isolation} is not to be had from runtime ${runtime}: it runs programs of the machine`;
    const hint = 'Remove it, or write the bundle for runtime js.';
    problems.push({ message, pointer: pointerTo('', EXTENSION, 'isolation'), hint });
  }
  return problems;
}

function permissionsAt(value: JsonObject): Permissions {
  const permissions = objectAt(value, 'permissions');
  const fs = objectAt(permissions, 'fs');
  return {
    net: memberOf(permissions, 'net') === true,
    fs: { read: textsAt(fs, 'read'), write: textsAt(fs, 'write') },
    child: memberOf(permissions, 'child') === true,
  };
}

function textsAt(value: JsonObject, key: string): readonly string[] {
  const list = memberOf(value, key);
  return Array.isArray(list) ? list.filter((each): each is string => typeof each === 'string') : [];
}
