/** A request's target taken apart. */
export interface RequestTarget {
  /** Of the absolute form; it takes the place of the `Host` header. */
  readonly host?: string;
  readonly path: string;
  /** Without the question mark. */
  readonly query: string;
}

const ABSOLUTE = /^https?:\/\/([^/?#]*)(.*)$/is;

/** Splits the origin form, `/a/b?c`, and the absolute form that clients send to proxies. RFC 9112 §3.2. */
export function splitTarget(url: string): RequestTarget {
  if (url.charCodeAt(0) === 0x2f) return splitOrigin(url);
  const absolute = ABSOLUTE.exec(url);
  if (absolute === null) return { path: url, query: '' };
  const [, authority = '', rest = ''] = absolute;
  const host = authority.slice(authority.lastIndexOf('@') + 1);
  return { host, ...splitOrigin(rest.startsWith('/') ? rest : `/${rest}`) };
}

function splitOrigin(url: string): RequestTarget {
  const mark = url.indexOf('?');
  return mark < 0 ? { path: url, query: '' } : { path: url.slice(0, mark), query: url.slice(mark + 1) };
}
