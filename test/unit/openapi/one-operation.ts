import {
  type CompiledOperation,
  createValidators,
  type ReadRequest,
  type ReadResult,
} from '../../../core/openapi/compile.ts';
import { loadApi } from '../../../core/openapi/load.ts';

/** The compiled form of a document's only operation: what a bundle with this piece of OpenAPI would have. */
export async function oneOperation(
  operation: Readonly<Record<string, unknown>>,
  options: { readonly openapi?: string; readonly path?: string; readonly schemas?: object } = {},
): Promise<CompiledOperation> {
  const { openapi = '3.0.3', path = '/it', schemas = {} } = options;
  const document = {
    openapi,
    info: { title: 'One', version: '1' },
    paths: { [path]: { post: { operationId: 'it', responses: { 200: { description: 'ok' } }, ...operation } } },
    components: { schemas },
  };
  const { api } = await loadApi(JSON.stringify(document), { file: 'one.json' });
  return createValidators(api).operation(0);
}

/** A request with nothing in it but what is given. */
export function request(parts: Partial<ReadRequest> = {}): ReadRequest {
  return { params: {}, queryString: '', headers: {}, body: undefined, ...parts };
}

/** A request with a body. */
export function post(contentType: string | undefined, body: string | Buffer): ReadRequest {
  const headers: Record<string, string> = contentType === undefined ? {} : { 'content-type': contentType };
  return request({ headers, body: Buffer.from(body) });
}

/** What was read, without the prototypes that keep clients' names apart; throws when it was refused. */
export function accepted(result: ReadResult): { params: unknown; query: unknown; cookies: unknown; isText: boolean } {
  if (!result.ok) throw new Error(`refused: ${JSON.stringify(result.problems)}`);
  const { params, query, cookies, isText } = JSON.parse(JSON.stringify(result)) as Extract<ReadResult, { ok: true }>;
  return { params, query, cookies, isText };
}

/** `pointer message` of every violation; throws when nothing was refused. */
export function refused(result: ReadResult): readonly string[] {
  if (result.ok) throw new Error(`accepted: ${JSON.stringify(result)}`);
  return result.problems.map((problem) => `${problem.pointer} ${problem.message}`);
}
