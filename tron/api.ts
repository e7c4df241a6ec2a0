import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { FuncatronError, PROBLEM_CONTENT_TYPE, toFuncatronError, toProblem } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Api, JsonObject } from '../core/openapi/api.ts';
import { createValidators, type ReadResult } from '../core/openapi/compile.ts';
import { createRouter } from '../core/openapi/router.ts';
import { renderDocs } from './docs-page.ts';
import type { Endpoint } from './endpoint.ts';
import { sendAnswer } from './answer.ts';
import type { TokenCheck } from './token.ts';

export interface ApiOptions {
  /** swagger/tron.yaml, loaded: it is where every route comes from. */
  readonly api: Api;
  readonly document: JsonObject;
  /** By operationId. */
  readonly endpoints: Readonly<Record<string, Endpoint>>;
  readonly token: TokenCheck;
  /** Longest body of an operation that does not stream it. */
  readonly maxBodyBytes: number;
  readonly log: Log;
  /** Ends what would not end by itself. */
  readonly signal: AbortSignal;
}

/** Stands for a body that is streamed: only its content type is checked. */
const STREAMED_BODY = Buffer.alloc(1);

/**
 * The management API as an Express application: `/v1/…` as the document says, with requests held against it; `/docs`
 * and `/healthz` beside it. Errors are problem+json.
 */
export function createApi(options: ApiOptions): Express {
  const { api, document, endpoints, token, log } = options;
  const validators = createValidators(api);
  const router = createRouter(
    api.operations.map((operation, index) => ({
      host: undefined,
      basePath: api.basePath,
      method: operation.method,
      path: operation.path,
      value: { index, operationId: operation.operationId },
    })),
  );
  const docs = renderDocs(document);

  async function serve(req: Request, res: Response): Promise<void> {
    const [rawPath, queryString] = split(req.url);
    const match = router.match(req.headers.host, req.method, rawPath);
    if (match.kind === 'options') {
      res.status(204).set('allow', match.allow.join(', ')).end();
      return;
    }
    const endpoint = match.kind === 'found' ? endpoints[match.value.operationId] : undefined;
    // Without a token not even which paths there are is told.
    if (endpoint?.isOpen !== true) await token.check(req.headers.authorization);
    if (match.kind !== 'found' || endpoint === undefined) throw unmatched(match, req.method, rawPath);
    const headers = headersOf(req);
    const body = endpoint.isStreamed === true ? undefined : await readBody(req, options.maxBodyBytes);
    const isStreaming = endpoint.isStreamed === true && hasBody(req);
    const read = validators
      .operation(match.value.index)
      .read({ params: match.params, queryString, headers, body: isStreaming ? STREAMED_BODY : body });
    if (!read.ok) throw refused(read, match.value.operationId);
    const { params, query } = read;
    // A refused upload must not cost the connection its answer.
    const stream = req.iterator({ destroyOnReturn: false });
    await sendAnswer(res, await endpoint.handle({ params, query, headers, body, stream }), options.signal);
  }

  /** Express knows an error handler by its four parameters. */
  function fail(thrown: unknown, req: Request, res: Response, _next: NextFunction): void {
    const error = toFuncatronError(thrown);
    const isDefect = error.code === 'INTERNAL';
    if (isDefect) log.error({ err: thrown, method: req.method, path: req.path }, 'a request failed by a defect');
    if (res.headersSent || res.destroyed) {
      res.destroy();
      return;
    }
    const { retryAfterS, allow } = error.data;
    if (retryAfterS !== undefined) res.set('retry-after', String(retryAfterS));
    if (allow !== undefined) res.set('allow', allow.join(', '));
    if (error.code === 'UNAUTHENTICATED') res.set('www-authenticate', 'Bearer');
    // What a defect says is for the log: it may name anything.
    const shown = isDefect ? new FuncatronError('INTERNAL', 'a defect in tron; its log says more') : error;
    res
      .status(error.status)
      .type(PROBLEM_CONTENT_TYPE)
      .send(JSON.stringify(toProblem(shown)));
  }

  const app = express();
  app.disable('x-powered-by').disable('etag');
  app.get('/healthz', (_req, res) => void res.json({ status: 'ok' }));
  app.get('/docs', (_req, res) => {
    res.set('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'").type('html').send(docs);
  });
  app.use((req, res, next) => void serve(req, res).catch(next));
  app.use(fail);
  return app;
}

function unmatched(
  match: { readonly kind: string; readonly allow?: readonly string[] },
  method: string,
  path: string,
): FuncatronError {
  if (match.kind === 'malformed') return new FuncatronError('INVALID_REQUEST', `${path} is not a path`);
  if (match.allow !== undefined) {
    return new FuncatronError('METHOD_NOT_ALLOWED', `${path} does not take ${method}`, {
      data: { allow: match.allow },
    });
  }
  return new FuncatronError('NOT_FOUND', `there is no ${path} here`, { data: { hint: 'see /docs' } });
}

function refused(read: Extract<ReadResult, { ok: false }>, operationId: string): FuncatronError {
  const [first] = read.problems;
  return new FuncatronError(read.code, `${operationId}: ${first?.pointer ?? ''} ${first?.message ?? 'is refused'}`, {
    data: { problems: read.problems },
  });
}

function split(url: string): [string, string] {
  const at = url.indexOf('?');
  return at < 0 ? [url, ''] : [url.slice(0, at), url.slice(at + 1)];
}

function headersOf(req: Request): Record<string, string> {
  return Object.fromEntries(
    Object.entries(req.headers).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
    ),
  );
}

function hasBody(req: Request): boolean {
  return req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0;
}

async function readBody(req: Request, maxBytes: number): Promise<Buffer | undefined> {
  if (!hasBody(req)) return undefined;
  const chunks: Buffer[] = [];
  let bytes = Number(req.headers['content-length'] ?? 0);
  if (bytes <= maxBytes) {
    bytes = 0;
    for await (const chunk of req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes) break;
      chunks.push(chunk);
    }
  }
  if (bytes <= maxBytes) return Buffer.concat(chunks);
  throw new FuncatronError('PAYLOAD_TOO_LARGE', `the body has more than ${maxBytes} bytes`);
}
