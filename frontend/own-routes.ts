import type { RequestListener } from 'node:http';
import express, { type ErrorRequestHandler, type Request, type Response } from 'express';
import { FuncatronError, PROBLEM_CONTENT_TYPE, toFuncatronError, toProblem } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { isReachable, type Reach } from './direct-probe.ts';
import { DOCS_PAGE } from './docs-page.ts';
import { createMergedDocuments } from './merged-document.ts';
import type { OperatorCheck } from './operator-check.ts';
import type { Routes } from './routes.ts';

export interface OwnRoutesOptions {
  readonly routes: Routes;
  readonly operators: OperatorCheck;
  /** Why this frontend should get no calls now; empty = it should. */
  unready(): readonly string[];
  readonly log: Log;
}

/** What a frontend answers itself, under `/_funcatron`: `health` for load balancers, `openapi.json` and `docs` for people, `reach` for `funcatron doctor`. */
export function createOwnRoutes(options: OwnRoutesOptions): RequestListener {
  const { routes, log } = options;
  const documents = createMergedDocuments();
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', false);

  app.get('/_funcatron/health', (_req, res) => {
    const reasons = options.unready();
    res.set('cache-control', 'no-store');
    res.status(reasons.length === 0 ? 200 : 503).json({ ready: reasons.length === 0, reasons });
  });

  app.get('/_funcatron/openapi.json', (req, res) => {
    res.set('cache-control', 'no-cache');
    res.type('json').send(documents(routes.table, req.headers.host));
  });

  app.get('/_funcatron/docs', (_req, res) => {
    res.set({
      'cache-control': 'no-cache',
      'content-security-policy':
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
      'x-content-type-options': 'nosniff',
    });
    res.type('html').send(DOCS_PAGE);
  });

  app.get('/_funcatron/reach', (req, res, next) => {
    const url = new URL(req.url, 'http://frontend').searchParams.get('url') ?? '';
    isReachedFor(req.headers.authorization, url).then(
      (reach) => res.set('cache-control', 'no-store').json(reach),
      next,
    );
  });

  app.use((req) => {
    throw new FuncatronError('NO_ROUTE', `the frontend has no ${req.method} ${req.path} of its own`);
  });

  async function isReachedFor(authorization: string | undefined, url: string): Promise<Reach> {
    if (await options.operators.isOperator(authorization)) return await isReachable(url);
    throw new FuncatronError('UNAUTHENTICATED', 'only the management token may ask what can be reached from here');
  }

  const onError: ErrorRequestHandler = (thrown: unknown, req: Request, res: Response, next) => {
    if (res.headersSent) return next(thrown);
    const error = toFuncatronError(thrown);
    if (error.code === 'INTERNAL')
      log.error({ err: thrown, path: req.path }, 'a request of the frontend itself failed');
    res
      .status(error.status)
      .type(PROBLEM_CONTENT_TYPE)
      .send(JSON.stringify(toProblem(error)));
  };
  app.use(onError);
  return app;
}
