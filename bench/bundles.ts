import { packArchive, readArchive } from '../core/bundle/archive.ts';
import { benchArchive } from './cluster.ts';

export interface BenchBundle {
  readonly name: string;
  readonly basePath: string;
  readonly isolation?: 'process' | 'thread' | 'strict';
  /** Routes beside `/hello/{name}`, all to the same func. */
  readonly moreRoutes?: number;
  readonly workers?: { readonly min: number; readonly max: number };
}

interface Document {
  readonly 'x-funcatron': object;
  readonly paths: Readonly<Record<string, { readonly post: object }>>;
}

/** The bench bundle under other names. */
export async function benchBundles(bundles: readonly BenchBundle[]): Promise<readonly Buffer[]> {
  const { files } = await readArchive(await benchArchive());
  const document = JSON.parse(String(files.get('funcatron.json'))) as Document;
  const archives: Buffer[] = [];
  for (const bundle of bundles) {
    const variant = Buffer.from(JSON.stringify(variantOf(document, bundle)));
    archives.push((await packArchive(new Map([...files, ['funcatron.json', variant]]))).archive);
  }
  return archives;
}

function variantOf(document: Document, { name, basePath, isolation, moreRoutes = 0, workers }: BenchBundle): object {
  const [hello] = Object.values(document.paths);
  const more = Array.from({ length: moreRoutes }, (_, index) => [
    `/more-${index}/{name}`,
    { post: { ...hello?.post, operationId: `more${index}`, 'x-funcatron': { handler: 'greet' } } },
  ]);
  const extension = { ...document['x-funcatron'], name, ...(isolation && { isolation }), ...(workers && { workers }) };
  return {
    ...document,
    servers: [{ url: basePath }],
    'x-funcatron': extension,
    paths: { ...document.paths, ...(Object.fromEntries(more) as object) },
  };
}
