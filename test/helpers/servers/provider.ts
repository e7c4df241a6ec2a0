import type { Context } from 'mocha';

/** No server of this kind can be had on this machine; the message says what was looked for. */
export class NoServer extends Error {
  override readonly name = 'NoServer';
}

const said = new Set<string>();

/**
 * Runs `start` in a `before` hook. Where no server can be had, the suite is skipped and stderr says so once;
 * with `CI=true` it fails instead.
 */
export async function startOrSkip<T>(hook: Context, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    if (!(error instanceof NoServer) || process.env['CI'] === 'true') throw error;
    if (!said.has(error.message)) process.stderr.write(`\n  SKIPPED WITHOUT ITS SERVER: ${error.message}\n\n`);
    said.add(error.message);
    return hook.skip();
  }
}
