import { packArchive, readArchive } from '../core/bundle/archive.ts';
import { benchArchive } from './cluster.ts';

export interface BenchBundle {
  readonly name: string;
  readonly basePath: string;
  readonly isolation?: 'process' | 'thread' | 'strict';
  /** Routes beside `/hello/{name}`, all to the same func. */
  readonly moreRoutes?: number;
  readonly workers?: { readonly min: number; readonly max: number };
  readonly idleTimeoutS?: number;
  /** The func that answers; default: `greet`. */
  readonly handler?: string;
  /** Its document says nothing of what a call must look like. */
  readonly isUnchecked?: boolean;
}

interface Operation {
  readonly parameters: readonly object[];
}

interface Document {
  readonly 'x-funcatron': object;
  readonly paths: Readonly<Record<string, { readonly post: Operation }>>;
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

function variantOf(document: Document, bundle: BenchBundle): object {
  const { name, basePath, isolation, moreRoutes = 0, workers, idleTimeoutS, handler, isUnchecked = false } = bundle;
  const hello = Object.values(document.paths)[0]?.post;
  const main = { ...hello, ...(isUnchecked && uncheckedOf(hello)), ...(handler && { 'x-funcatron': { handler } }) };
  const more = Array.from({ length: moreRoutes }, (_, index) => [
    `/more-${index}/{name}`,
    { post: { ...hello, operationId: `more${index}`, 'x-funcatron': { handler: 'greet' } } },
  ]);
  const extension = {
    ...document['x-funcatron'],
    name,
    ...(isolation && { isolation }),
    ...(workers && { workers }),
    ...(idleTimeoutS && { idleTimeoutS }),
  };
  return {
    ...document,
    servers: [{ url: basePath }],
    'x-funcatron': extension,
    paths: { '/hello/{name}': { post: main }, ...(Object.fromEntries(more) as object) },
  };
}

/** A path parameter must be declared, and a body have a type: nothing else is said of them. */
function uncheckedOf(operation: Operation | undefined): object {
  return {
    parameters: operation?.parameters.map((parameter) => ({ ...parameter, schema: {} })),
    requestBody: { content: { 'application/json': {} } },
  };
}
