import { once } from 'node:events';
import { request } from 'node:http';

export interface RawAnswer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: Buffer;
  readonly trailers: NodeJS.Dict<string>;
  /** The connection ended before the body did. */
  readonly isCut: boolean;
}

export interface RawRequest {
  /** Default: GET without pieces, else POST. */
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent one by one, each when the one before it has left. Without a `content-length` among the headers: in chunks. */
  readonly pieces?: Iterable<Buffer | string> | AsyncIterable<Buffer | string>;
  /** Hears pieces of the answer instead of `body`. */
  readonly onPiece?: (piece: Buffer) => void;
}

/** One request over a connection of its own, bodies piece by piece in both directions. Rejects when there is no answer. */
export function send(url: string, { pieces, onPiece, ...options }: RawRequest = {}): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const method = options.method ?? (pieces === undefined ? 'GET' : 'POST');
    const req = request(url, { agent: false, method, headers: options.headers ?? {} }, (res) => {
      const parts: Buffer[] = [];
      res.on('data', (piece: Buffer) => (onPiece === undefined ? parts.push(piece) : onPiece(piece)));
      res.on('error', () => undefined); // `close` follows.
      res.on('close', () => {
        const { statusCode: status = 0, headers, trailers, complete } = res;
        resolve({ status, headers, trailers, body: Buffer.concat(parts), isCut: !complete });
        req.destroy();
      });
    });
    req.on('error', reject);
    void upload();

    async function upload(): Promise<void> {
      try {
        for await (const piece of pieces ?? []) {
          if (req.destroyed) return;
          if (!req.write(piece)) await once(req, 'drain');
        }
        req.end();
      } catch (error) {
        reject(error); // It has an answer, if the server was not interested in the rest.
      }
    }
  });
}
