/**
 * What an attacker who got out of the guest would look for on `process` first: ways to other modules, and to signal the
 * runner, which has the same user and which `--permission` does not protect. Node itself needs none of them any more.
 */
const REMOVED = [
  '_debugEnd',
  '_debugProcess',
  '_getActiveHandles',
  '_getActiveRequests',
  '_kill',
  '_linkedBinding',
  'binding',
  'dlopen',
  'execve',
  'getBuiltinModule',
  'kill',
  'loadEnvFile',
  'mainModule',
  'moduleLoadList',
  'report',
  'stderr',
  'stdin',
  'stdout',
];

/** Removes them for good. Call it when everything the host needs is loaded. A layer, not a wall: the wall is the process. */
export function lockProcess(): void {
  for (const name of REMOVED) {
    if (!Reflect.deleteProperty(process, name)) Object.defineProperty(process, name, { value: undefined });
  }
}
