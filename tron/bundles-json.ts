/** A head and its `bundles`, of which each is JSON already: with 1 000 of them, making it all again takes milliseconds. */
export function bundlesJson(head: Readonly<Record<string, unknown>>, texts: readonly string[]): string {
  return `${JSON.stringify(head).slice(0, -1)},"bundles":[${texts.join(',')}]}`;
}
