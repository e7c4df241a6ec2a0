import { readFile, stat } from 'node:fs/promises';
import { packFolder } from './author.ts';
import { printProblem } from './failure.ts';
import type { Deployed } from './answers.ts';
import type { TronClient } from './client.ts';
import type { Terminal } from './terminal.ts';

/**
 * Packs a bundle's folder (or takes an archive made by `pack`), uploads it and waits until it is live everywhere.
 * @throws INVALID_BUNDLE, DEPLOY_FAILED, ROUTE_CONFLICT, DEPLOY_IN_PROGRESS, TRON_DOWN
 */
export async function deployPath(
  client: TronClient,
  path: string,
  live: boolean,
  terminal: Terminal,
): Promise<Deployed> {
  const isFile = (await stat(path).catch(() => undefined))?.isFile() === true;
  const archive = isFile ? await readFile(path) : (await packFolder(path, terminal)).archive;
  const deployed = await client.send<Deployed>('POST', live ? '/bundles' : '/bundles?live=false', archive);
  // An archive was packed elsewhere: its warnings were not seen here.
  if (isFile) for (const warning of deployed.warnings) printProblem(terminal, warning);
  return deployed;
}
