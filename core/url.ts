import { hostname } from 'node:os';

/** The URL of something that listens on `host`; this machine's name where that is every address. */
export function urlOf(host: string, port: number): string {
  const name = host === '0.0.0.0' || host === '::' ? hostname() : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}
