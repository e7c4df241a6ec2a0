/** A value as the manifest has it: written there, or a name of one the operator keeps. */
export type Setting = string | { readonly secret: string };

/** What `x-funcatron.services` says of one service, by its type. `swagger/funcatron.schema.json` is the complete list of keys. */
export type ServiceSettings =
  | { readonly type: 'kv' }
  | { readonly type: 'postgres'; readonly url: Setting; readonly poolMax: number }
  | { readonly type: 'redis'; readonly url: Setting }
  | { readonly type: 'http'; readonly baseUrl: Setting; readonly headers?: Readonly<Record<string, Setting>> }
  | { readonly type: 'amqp'; readonly url: Setting; readonly exchanges?: readonly string[] };

/** The types this version has. */
export const SERVICE_TYPES = [
  'kv',
  'postgres',
  'redis',
  'http',
  'amqp',
] as const satisfies readonly ServiceSettings['type'][];
