/**
 * Headers of an answer, in lower case, that speak of one connection or of framing: whoever writes the answer makes them,
 * and nobody behind it can set them. RFC 9110 §7.6.1.
 */
export const CONNECTION_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-authenticate',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
