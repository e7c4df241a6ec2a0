import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCluster } from '../../cli/cluster.ts';
import { packBundle } from '../../core/bundle/pack.ts';
import { CONFIG, readConfig } from '../../core/config.ts';

/** A whole cluster in this process, with nothing but what a test deploys. */
export interface EmbeddedCluster {
  readonly httpUrl: string;
  /** `Bearer <management token>`. */
  readonly authorization: string;
  /** Packs a folder and makes it live. */
  deploy(folder: string): Promise<void>;
  /** Calls an operation over the queue. */
  invoke(bundle: string, operation: string, body: unknown): Promise<Response>;
  close(): Promise<void>;
}

/** Starts one on free ports, in a temporary folder. It runs every runtime, as `up` does. `settings` are flags beside that. */
export async function openEmbedded(
  settings: { readonly secretsDir?: string; readonly directThresholdBytes?: string } = {},
): Promise<EmbeddedCluster> {
  const dataDir = mkdtempSync(join(tmpdir(), 'funcatron-embedded-'));
  const runtimes = CONFIG.runtimes.someOf.join(',');
  const flags = { ...settings, dataDir, httpPort: '0', tronPort: '0', logLevel: 'error', runtimes };
  const config = readConfig(flags, {});
  const cluster = await openCluster(config);
  const authorization = `Bearer ${readFileSync(join(dataDir, 'token'), 'utf8').trim()}`;

  function post(path: string, contentType: string, body: NonNullable<RequestInit['body']>): Promise<Response> {
    const headers = { authorization, 'content-type': contentType };
    return fetch(`${cluster.tronUrl}/v1${path}`, { method: 'POST', headers, body });
  }

  return {
    httpUrl: cluster.httpUrl,
    authorization,
    async deploy(folder) {
      const { archive } = await packBundle(folder);
      const response = await post('/bundles', 'application/gzip', new Uint8Array(archive));
      if (!response.ok) throw new Error(`deploy of ${folder} answered ${response.status}: ${await response.text()}`);
    },
    invoke(bundle, operation, body) {
      return post(`/bundles/${bundle}/operations/${operation}/invoke`, 'application/json', JSON.stringify(body));
    },
    async close() {
      await cluster.close();
      rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
