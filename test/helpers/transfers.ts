import { request, type ClientRequest, type IncomingMessage, type RequestOptions } from 'node:http';

/** What became of a request. */
export interface Ended {
  readonly status: number;
  readonly code: string | undefined;
  readonly text: string;
  readonly trailers: NodeJS.Dict<string>;
  /** The answer broke off. */
  readonly isCut: boolean;
}

/** A request whose body is the test's to send, and what became of it; without an answer its status is 0. */
export function send(
  url: string,
  options: RequestOptions = {},
): { readonly req: ClientRequest; readonly ended: Promise<Ended> } {
  const req = request(url, { agent: false, ...options });
  const ended = new Promise<Ended>((resolve) => {
    let text = '';
    const end = (res: IncomingMessage | undefined, isCut: boolean): void => {
      const isProblem = res?.headers['content-type'] === 'application/problem+json';
      const code = isProblem && !isCut ? (JSON.parse(text) as { code: string }).code : undefined;
      resolve({ status: res?.statusCode ?? 0, code, text, trailers: res?.trailers ?? {}, isCut });
    };
    req.on('error', () => end(undefined, true));
    req.on('response', (res) => {
      res.on('data', (piece) => (text += String(piece)));
      res.on('close', () => end(res, !res.readableEnded));
      res.on('error', () => undefined);
    });
  });
  return { req, ended };
}

/** A request without a body. */
export function get(url: string, options: RequestOptions = {}): Promise<Ended> {
  const { req, ended } = send(url, options);
  req.end();
  return ended;
}
