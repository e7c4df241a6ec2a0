import type { ServiceSettings, Setting } from '../../core/bundle/service-settings.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { portOf, type FetchPolicy } from './address-policy.ts';
import { createAmqp } from './amqp.ts';
import { createHttp } from './http.ts';
import { createPostgres } from './postgres.ts';
import { createRedis } from './redis.ts';
import type { Secrets } from './secrets.ts';
import type { Service } from './service.ts';

interface Means {
  readonly secrets: Secrets;
  readonly policy: FetchPolicy;
  readonly log: Log;
}

const SCHEMES = {
  postgres: ['postgres:', 'postgresql:'],
  redis: ['redis:', 'rediss:'],
  http: ['http:', 'https:'],
  amqp: ['amqp:', 'amqps:'],
} as const;

/**
 * The service a manifest declares; `undefined` where the runner has nothing to do with it. A URL that the operator keeps
 * as a secret may lead anywhere; one that the bundle's author wrote leads to the public internet (http) or to hosts the
 * operator allows: otherwise a bundle could name the cluster's own store.
 * @throws DEPLOY_FAILED when the URL cannot be used
 */
export function createService(name: string, settings: ServiceSettings, means: Means): Service | undefined {
  const { secrets, policy, log } = means;
  switch (settings.type) {
    case 'postgres':
      return createPostgres(name, serverUrl(name, settings, means), settings.poolMax, log);
    case 'redis':
      return createRedis(name, serverUrl(name, settings, means));
    case 'amqp':
      return createAmqp(name, serverUrl(name, settings, means), settings.exchanges);
    case 'http': {
      const baseUrl = parse(name, 'http', valueOf(settings.baseUrl, secrets));
      const host = baseUrl.hostname.replace(/^\[|\]$/g, '');
      const allowed = isSecret(settings.baseUrl) ? [...policy.allowed, host] : policy.allowed;
      const given = Object.entries(settings.headers ?? {});
      const headers = Object.fromEntries(given.map(([header, value]) => [header, valueOf(value, secrets)]));
      return createHttp(name, { baseUrl, headers, policy: { ...policy, allowed }, wanted: [host] });
    }
    default:
      return undefined;
  }
}

function isSecret(setting: Setting): boolean {
  return typeof setting !== 'string';
}

function valueOf(setting: Setting, secrets: Secrets): string {
  return typeof setting === 'string' ? setting : (secrets[setting.secret] ?? '');
}

function serverUrl(
  name: string,
  settings: { readonly type: 'postgres' | 'redis' | 'amqp'; readonly url: Setting },
  { secrets, policy }: Means,
): string {
  const text = valueOf(settings.url, secrets);
  const url = parse(name, settings.type, text);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isAllowed = policy.allowed.includes(host) || policy.allowed.includes(`${host}:${portOf(url)}`);
  // Other hosts hide in parameters: postgres://allowed/db?host=elsewhere.
  if (isSecret(settings.url) || (isAllowed && url.search === '')) return text;
  const hint = 'Keep the URL as a secret ({secret: NAME}), or have the operator allow the host with --fetch-allow.';
  throw new FuncatronError('DEPLOY_FAILED', `service ${name}: the bundle names a server this runner does not allow`, {
    data: { hint },
  });
}

function parse(name: string, type: keyof typeof SCHEMES, text: string): URL {
  const url = URL.parse(text);
  const schemes: readonly string[] = SCHEMES[type];
  if (url !== null && schemes.includes(url.protocol)) return url;
  // Not the text: it may be a secret.
  throw new FuncatronError('DEPLOY_FAILED', `service ${name}: its URL does not begin with ${schemes.join('// or ')}//`);
}
