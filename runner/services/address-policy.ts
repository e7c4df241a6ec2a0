import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import type { Config } from '../../core/config.ts';
import { FuncatronError } from '../../core/errors.ts';

/** IPv4 that is not the public internet. Source: IANA IPv4 Special-Purpose Address Registry; the last is Azure's host agent. */
const PRIVATE_V4: readonly (readonly [network: string, prefix: number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  ['168.63.129.16', 32],
];

/** Inside 2000::/3, what is not the public internet or leads into IPv4. Source: IANA IPv6 Special-Purpose Address Registry. */
const PRIVATE_V6: readonly (readonly [network: string, prefix: number])[] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

const privateV4 = new BlockList();
for (const [network, prefix] of PRIVATE_V4) privateV4.addSubnet(network, prefix, 'ipv4');
const privateV6 = new BlockList();
for (const [network, prefix] of PRIVATE_V6) privateV6.addSubnet(network, prefix, 'ipv6');
const globalV6 = new BlockList();
globalV6.addSubnet('2000::', 3, 'ipv6');

/** What the operator's configuration says. */
export function fetchPolicyOf(config: Pick<Config, 'fetchAllow' | 'brokerUrl' | 'storeUrl'>): FetchPolicy {
  const urls = [...config.brokerUrl.split(','), ...config.storeUrl.split(',')].map((url) => URL.parse(url.trim()));
  return {
    allowed: config.fetchAllow.split(',').flatMap((host) => (host.trim() === '' ? [] : [host.trim().toLowerCase()])),
    own: urls.flatMap((url) => (url === null || url.hostname === '' ? [] : [hostAndPort(url)])),
  };
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = {
  'http:': '80',
  'https:': '443',
  'amqp:': '5672',
  'amqps:': '5671',
  'redis:': '6379',
  'rediss:': '6379',
  'postgres:': '5432',
  'postgresql:': '5432',
};

function hostAndPort(url: URL): string {
  return `${url.hostname}:${portOf(url)}`;
}

/** The port of a URL, written or not. */
export function portOf(url: URL): string {
  return url.port === '' ? (DEFAULT_PORTS[url.protocol] ?? '') : url.port;
}

/** Whether an address is on the public internet. Everything else is denied: loopback, private, link-local, metadata, v4 inside v6 … */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !privateV4.check(address, 'ipv4');
  return family === 6 && globalV6.check(address, 'ipv6') && !privateV6.check(address, 'ipv6');
}

/** An address that may be connected to. */
export interface PinnedAddress {
  readonly address: string;
  readonly family: number;
}

/** Which hosts the bundles of this runner may fetch. */
export interface FetchPolicy {
  /** `host` or `host:port` the operator allows beyond the public internet. */
  readonly allowed: readonly string[];
  /** `host:port` of broker and store: never, unless allowed. */
  readonly own: readonly string[];
}

/**
 * Resolves a host and says which address to connect to: whoever connects must use it, and not resolve again, because
 * a name may answer something else the second time.
 * @param wanted private hosts the bundle's manifest names
 * @throws FORBIDDEN when one of its addresses is not public and it is not both wanted and allowed
 */
export async function pinAddress(url: URL, policy: FetchPolicy, wanted: readonly string[]): Promise<PinnedAddress> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = portOf(url);
  const family = isIP(host);
  const addresses = family === 0 ? await lookup(host, { all: true }) : [{ address: host, family }];
  const isAllowed = names(policy.allowed, host, port) && names(wanted, host, port);
  const isOwn =
    addresses.some(({ address }) => policy.own.includes(`${address}:${port}`)) ||
    policy.own.includes(`${host}:${port}`);
  const first = addresses[0];
  if (first !== undefined && (isAllowed || (!isOwn && addresses.every(({ address }) => isPublicAddress(address))))) {
    return first;
  }
  throw new FuncatronError('FORBIDDEN', `fetch of ${host}:${port} is not allowed: it is not on the public internet`, {
    data: { hint: 'name the host in x-funcatron.fetchAllow, and have the operator allow it with --fetch-allow' },
  });
}

function names(list: readonly string[], host: string, port: string): boolean {
  return list.includes(host) || list.includes(`${host}:${port}`);
}
