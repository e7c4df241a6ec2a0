import { toFuncatronError } from '../core/errors.ts';
import type { TronClient } from './client.ts';
import type { Finding } from './doctor-checks.ts';

interface Runner {
  readonly id: string;
  readonly hostname: string;
  readonly directUrl?: string;
}

interface Frontend {
  readonly id: string;
  readonly hostname: string;
  readonly url: string;
}

/** Whether each frontend reaches each runner where that says it listens for long bodies. One finding a pair that fails. */
export async function checkDirectPath(client: TronClient): Promise<readonly Finding[]> {
  const [{ runners }, { frontends }] = await Promise.all([
    client.get<{ runners: readonly Runner[] }>('/runners'),
    client.get<{ frontends: readonly Frontend[] }>('/frontends'),
  ]);
  const pairs = frontends.flatMap((frontend) => runners.map((runner) => checkPair(client, frontend, runner)));
  const found = (await Promise.all(pairs)).filter((finding) => finding !== undefined);
  if (found.length > 0) return found;
  const counts = `${frontends.length} frontends reach ${runners.length} runners`;
  return [{ name: 'direct', state: 'ok', text: `${counts} for long bodies` }];
}

async function checkPair(client: TronClient, frontend: Frontend, runner: Runner): Promise<Finding | undefined> {
  const { directUrl } = runner;
  // One of an older version says nothing, and has no direct path.
  if (directUrl === undefined) return undefined;
  try {
    const ask = `${frontend.url}/_funcatron/reach?url=${encodeURIComponent(directUrl)}`;
    const { reached, why } = await client.ask<{ reached: boolean; why?: string }>(ask);
    if (reached) return undefined;
    return {
      name: 'direct',
      state: 'bad',
      text: `frontend ${frontend.hostname} cannot reach runner ${runner.hostname} at ${directUrl}: ${why}`,
      fix: `on ${runner.hostname}: fix --direct-port, open it to the frontends, and give --direct-url the address they see`,
    };
  } catch (error) {
    const { message } = toFuncatronError(error);
    return {
      name: 'direct',
      state: 'warning',
      text: `cannot ask frontend ${frontend.hostname} at ${frontend.url} whom it reaches: ${message}`,
      fix: 'run this where the frontends can be reached',
    };
  }
}
