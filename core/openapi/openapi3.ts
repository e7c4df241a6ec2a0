import type { ApiBody, ApiMedia, ApiParameter, ApiResponse, Json } from './api.ts';
import { isObject, listAt, memberOf, pointerTo, textAt } from './json.ts';
import { parseContentType } from './media.ts';
import { type EditionReader, mediaKey, type OperationSite, type ReaderContext } from './model.ts';
import { follow, type Located } from './references.ts';

/** The styles each location has. OpenAPI 3.1 §4.8.12.2 */
const STYLES: Readonly<Record<ApiParameter['in'], readonly ApiParameter['style'][]>> = {
  path: ['simple', 'label', 'matrix'],
  query: ['form', 'spaceDelimited', 'pipeDelimited', 'deepObject'],
  header: ['simple'],
  cookie: ['form'],
};

/** Reads the parts of an OpenAPI 3.0 or 3.1 document. https://spec.openapis.org/oas/v3.1.1 */
export function createOpenApi3Reader(context: ReaderContext): EditionReader {
  return {
    basePath: () => readBasePath(context),
    parameters: (site) =>
      site.parameters
        .filter(({ value }) => Object.hasOwn(STYLES, textAt(value, 'in') ?? ''))
        .map((each) => readParameter(context, each)),
    body: (site) => readBody(context, site),
    response: (_site, response) => readResponse(context, response),
  };
}

/** The path of the first server's URL, its variables at their defaults. Only x-funcatron.host decides the host. */
function readBasePath({ document, problems }: ReaderContext): string {
  const [server] = listAt(document, 'servers');
  const template = textAt(server, 'url') ?? '/';
  const variables = memberOf(server, 'variables');
  const url = template.replaceAll(/\{([^{}]*)\}/g, (whole, name: string) => {
    return textAt(memberOf(variables, name), 'default') ?? whole;
  });
  if (/[{}]/.test(url)) {
    const hint = 'Declare the variable with a default.';
    problems.push({ message: `server ${url} has a variable without a default`, pointer: '/servers/0/url', hint });
    return '';
  }
  const path = url.replace(/^[a-z][a-z0-9+.-]*:/i, '').replace(/^\/\/[^/?#]*/, '');
  return path.replace(/[?#].*$/s, '').replace(/^\.(?=\/|$)/, '');
}

function readParameter(context: ReaderContext, { value, pointer }: Located): ApiParameter {
  const place = textAt(value, 'in') as ApiParameter['in'];
  const [usual = 'simple'] = STYLES[place];
  const style = (textAt(value, 'style') ?? usual) as ApiParameter['style'];
  if (!STYLES[place].includes(style)) {
    const at = pointerTo(pointer, 'style');
    const hint = `Use ${STYLES[place].join(', ')}.`;
    context.problems.push({ message: `style ${style} does not fit a parameter in ${place}`, pointer: at, hint });
  }
  const explode = memberOf(value, 'explode');
  const content = memberOf(value, 'content');
  const [media] = Object.keys(isObject(content) ? content : {});
  const owner = media === undefined ? { value, pointer } : memberAt({ value, pointer }, 'content', media);
  const schema = context.schemas.take(memberOf(owner.value, 'schema'), pointerTo(owner.pointer, 'schema'));
  return {
    name: textAt(value, 'name') ?? '',
    in: place,
    required: place === 'path' || memberOf(value, 'required') === true,
    schema,
    style,
    explode: typeof explode === 'boolean' ? explode : style === 'form',
    ...(memberOf(value, 'allowReserved') === true ? { allowReserved: true } : {}),
    ...(memberOf(value, 'allowEmptyValue') === true && place === 'query' ? { allowEmptyValue: true } : {}),
    ...(media !== undefined && parseContentType(media)?.kind === 'json' ? { json: true } : {}),
  };
}

function readBody(context: ReaderContext, site: OperationSite): ApiBody | undefined {
  const declared = memberOf(site.operation, 'requestBody');
  if (declared === undefined) return undefined;
  const body = follow(context.document, { value: declared, pointer: pointerTo(site.pointer, 'requestBody') });
  return { required: memberOf(body.value, 'required') === true, content: readContent(context, body) };
}

function readContent(context: ReaderContext, owner: Located): Readonly<Record<string, ApiMedia>> {
  const content = memberOf(owner.value, 'content');
  const media: Record<string, ApiMedia> = {};
  for (const type of Object.keys(isObject(content) ? content : {})) {
    media[mediaKey(type)] = readMedia(context, memberAt(owner, 'content', type));
  }
  return media;
}

function readMedia(context: ReaderContext, { value, pointer }: Located): ApiMedia {
  const declared = memberOf(value, 'schema');
  const encoding = memberOf(value, 'encoding');
  return {
    ...(declared === undefined ? {} : { schema: context.schemas.take(declared, pointerTo(pointer, 'schema')) }),
    ...(isObject(encoding) ? { encoding: mapValues(encoding, readEncoding) } : {}),
  };
}

function readEncoding(value: Json): NonNullable<ApiMedia['encoding']>[string] {
  const contentType = textAt(value, 'contentType');
  const style = textAt(value, 'style');
  const explode = memberOf(value, 'explode');
  return {
    ...(contentType === undefined ? {} : { contentType }),
    ...(style === undefined ? {} : { style }),
    ...(typeof explode === 'boolean' ? { explode } : {}),
  };
}

function readResponse(context: ReaderContext, response: Located): ApiResponse {
  const headers = memberOf(response.value, 'headers');
  const content = readContent(context, response);
  if (!isObject(headers)) return { content };
  const read: Record<string, NonNullable<ApiResponse['headers']>[string]> = {};
  for (const name of Object.keys(headers)) {
    const header = follow(context.document, memberAt(response, 'headers', name));
    const schema = context.schemas.take(memberOf(header.value, 'schema'), pointerTo(header.pointer, 'schema'));
    read[name] = { required: memberOf(header.value, 'required') === true, schema };
  }
  return { content, headers: read };
}

function memberAt(owner: Located, ...tokens: readonly string[]): Located {
  let { value } = owner;
  for (const token of tokens) value = memberOf(value, token);
  return { value, pointer: pointerTo(owner.pointer, ...tokens) };
}

function mapValues<T>(members: Readonly<Record<string, Json>>, read: (value: Json) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [name, read(value)]));
}
