import type { WorkerSpec } from '../isolate/isolate.ts';
import type { Home } from './homes.ts';
import { headersOf, hostOf, methodOf, type ProgramCall, targetOf, textOf } from './program-call.ts';

/**
 * What a program finds in its environment: nothing of the runner's. The names of Fn's function formats
 * (fnproject/fn, docs/developers/function-format.md), and the bundle's config and secrets under theirs.
 */

type Environment = Readonly<Record<string, string>>;

const BASE: Environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
};
/** Linux takes 128 KiB a variable and 2 MiB in all; a call's headers are at most 32 KiB anyway. */
const MAX_CHARS = 64 * 1024;

/** The same for every call. */
export function environmentOf(spec: WorkerSpec, format: 'http' | 'default', { own }: Pick<Home, 'own'>): Environment {
  return {
    ...BASE,
    ...homeVariables({ own }),
    ...variablesOf(spec.config),
    ...variablesOf(spec.secrets ?? {}),
    FN_APP_NAME: spec.bundle,
    FN_PATH: '/',
    FN_FORMAT: format,
    FN_TYPE: 'sync',
    FN_MEMORY: String(spec.memoryMb),
  };
}

/** Where a worker may leave files, until it ends. */
export function homeVariables({ own }: Pick<Home, 'own'>): Environment {
  return { HOME: own, TMPDIR: own };
}

/** Of one call, for a program that runs for it alone. Header variables have a prefix, so none of them is `PATH`. */
export function environmentOfCall(call: ProgramCall): Environment {
  const { meta } = call;
  const target = targetOf(meta);
  const variables: Record<string, string> = {};
  let chars = 0;
  for (const [name, value] of headersOf(meta)) {
    chars += name.length + value.length;
    if (chars > MAX_CHARS) break;
    const key = `FN_HEADER_${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}`;
    const before = variables[key];
    variables[key] = before === undefined ? value : `${before}, ${value}`;
  }
  return {
    ...variables,
    FN_HEADER_HOST: hostOf(meta),
    FN_CALL_ID: call.id,
    FN_METHOD: methodOf(meta),
    FN_PATH: meta.path === undefined ? '/' : (target.split('?', 1)[0] ?? '/'),
    FN_REQUEST_URL: `http://${hostOf(meta)}${target}`.slice(0, MAX_CHARS),
    FN_OPERATION: call.operationId,
    FN_TYPE: meta.kind === 'queue' ? 'async' : 'sync',
    ...(Number.isFinite(call.deadline) ? { FN_DEADLINE: new Date(call.deadline).toISOString() } : {}),
  };
}

/**
 * `FN_…` is ours; the others would be obeyed by the programs that put up the walls, with the runner's rights, before
 * these stand: the loader, the C library, a shell, `mount`.
 */
const RESERVED = /^(FN_|LD_|GLIBC_|GCONV_|LOCPATH$|NLSPATH$|MALLOC_|BASH|SHELLOPTS$|ENV$|PS4$|LIBMOUNT_|LIBBLKID_)/;

/** Config as it is written, other values than strings as JSON. */
function variablesOf(values: Readonly<Record<string, unknown>>): Environment {
  const variables: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    if (!/^[A-Za-z_]\w*$/.test(name) || RESERVED.test(name)) continue;
    const text = textOf(value);
    if (text.length <= MAX_CHARS && !text.includes('\0')) variables[name] = text;
  }
  return variables;
}
