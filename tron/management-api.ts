import { readFile } from 'node:fs/promises';
import type { Api, JsonObject } from '../core/openapi/api.ts';
import { loadApi } from '../core/openapi/load.ts';

/** The source of every route of the management API; the build puts it beside the compiled code too. */
const DOCUMENT = new URL('../swagger/tron.yaml', import.meta.url);

/** Reads swagger/tron.yaml, as it is served and as it is routed by. */
export async function loadManagementApi(): Promise<{ readonly api: Api; readonly document: JsonObject }> {
  const text = await readFile(DOCUMENT, 'utf8');
  return loadApi(text, { file: 'swagger/tron.yaml' });
}
