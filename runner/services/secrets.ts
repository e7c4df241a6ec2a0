import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Manifest } from '../../core/bundle/manifest.ts';
import { FuncatronError } from '../../core/errors.ts';

/** Longest value of a secret. */
const MAX_SECRET_BYTES = 64 * 1024;

/** Secrets by name, as the operator's files say. */
export type Secrets = Readonly<Record<string, string>>;

/**
 * The secrets a manifest names, for its funcs and for its services: each in `<folder>/<bundle>/<NAME>` or, for all
 * bundles, in `<folder>/<NAME>`; a line end at the end of the file does not count. Read when a revision is loaded.
 * @throws DEPLOY_FAILED naming each secret that is missing and the file to create
 */
export async function readSecrets(
  folder: string,
  manifest: Pick<Manifest, 'name' | 'secrets' | 'services'>,
): Promise<Secrets> {
  const values: Record<string, string> = {};
  const missing: string[] = [];
  for (const name of namesIn(manifest)) {
    const value = (await readSecret(join(folder, manifest.name, name))) ?? (await readSecret(join(folder, name)));
    if (value === undefined) missing.push(name);
    else values[name] = value;
  }
  if (missing.length === 0) return values;
  const files = missing.map((name) => join(folder, manifest.name, name));
  const message = `bundle ${manifest.name} needs ${missing.length === 1 ? 'secret' : 'secrets'} ${missing.join(', ')}, which this runner does not have`;
  const hint = `Write the value to ${files.join(', ')} on the runner (mode 0600), and deploy again.`;
  throw new FuncatronError('DEPLOY_FAILED', message, { data: { hint } });
}

/** The secrets of a manifest that its funcs may read: not those that only a service needs. */
export function guestSecrets(manifest: Pick<Manifest, 'secrets'>, secrets: Secrets): Secrets {
  return Object.fromEntries((manifest.secrets ?? []).map((name) => [name, secrets[name] ?? '']));
}

function namesIn({ secrets, services }: Pick<Manifest, 'secrets' | 'services'>): ReadonlySet<string> {
  const names = new Set(secrets ?? []); // Records of older versions name none.
  for (const service of Object.values(services)) {
    const values = [
      'url' in service ? service.url : undefined,
      'baseUrl' in service ? service.baseUrl : undefined,
      ...('headers' in service ? Object.values(service.headers ?? {}) : []),
    ];
    for (const value of values) if (typeof value === 'object') names.add(value.secret);
  }
  return names;
}

async function readSecret(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size > MAX_SECRET_BYTES)
      throw new FuncatronError('DEPLOY_FAILED', `${path} has ${size} bytes, more than ${MAX_SECRET_BYTES}`);
    return (await file.readFile('utf8')).replace(/\r?\n$/, '');
  } catch (cause) {
    if (cause instanceof FuncatronError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new FuncatronError('DEPLOY_FAILED', `cannot read the secret in ${path} (${code})`, { cause });
  }
}
