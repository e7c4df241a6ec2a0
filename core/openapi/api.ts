/**
 * The Api model: what a Swagger 2.0, OpenAPI 3.0 or 3.1 document says, in one shape. Plain JSON: Tron makes it once
 * at upload, stores it by digest, and frontends and runners read it from there. The index of an operation in
 * `operations` is the number that travels in call records.
 */
export interface Api {
  readonly title: string;
  readonly version: string;
  /** Lower case, without port; `undefined` answers every host. */
  readonly host?: string;
  /** `''`, or a path that begins with `/` and does not end with one. */
  readonly basePath: string;
  /** Which JSON Schema dialect the schemas speak: draft 4 for 2.0 and 3.0, 2020-12 for 3.1. */
  readonly dialect: 'draft-04' | '2020-12';
  /** What internal `$ref`s (`#/components/schemas/…`, `#/definitions/…`) resolve against. */
  readonly definitions: JsonObject;
  readonly operations: readonly ApiOperation[];
}

export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}
export type JsonSchema = JsonObject | boolean;

export interface ApiOperation {
  readonly operationId: string;
  /** Upper case. */
  readonly method: string;
  /** Template relative to `basePath`, beginning with `/`: `/orders/{id}`. */
  readonly path: string;
  /** The export of the bundle that is the func. */
  readonly handler: string;
  readonly summary?: string;
  /** Milliseconds; 0 = none (events only). */
  readonly timeoutMs: number;
  /** Whether a call may be run again after a crash: by its method, or declared `x-funcatron.idempotent`. */
  readonly mayRerun: boolean;
  readonly validateResponses: boolean;
  /** False: reached over the queue only (`x-funcatron.http: false`), no HTTP route. */
  readonly http: boolean;
  /** The func reads its body piece by piece (`event.stream()`), as it comes; nothing validates it. Absent: false. */
  readonly direct?: boolean;
  /** Longest body of a call. Absent: what the frontend allows, and no limit where `direct`. */
  readonly maxBodyBytes?: number;
  readonly parameters: readonly ApiParameter[];
  readonly body?: ApiBody;
  /** By status (`200`, `4XX`, `default`); used when `validateResponses`. */
  readonly responses: Readonly<Record<string, ApiResponse>>;
}

export interface ApiParameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header' | 'cookie';
  readonly required: boolean;
  readonly schema: JsonSchema;
  readonly style:
    'simple' | 'label' | 'matrix' | 'form' | 'spaceDelimited' | 'pipeDelimited' | 'deepObject' | 'tabDelimited';
  readonly explode: boolean;
  readonly allowReserved?: boolean;
  readonly allowEmptyValue?: boolean;
  /** `content: application/json`: the value is JSON text and the style does not apply. */
  readonly json?: boolean;
}

export interface ApiBody {
  readonly required: boolean;
  /** By media type or range (`application/json`, `image/*`, or any type), lower case, in document order. */
  readonly content: Readonly<Record<string, ApiMedia>>;
}

export interface ApiMedia {
  readonly schema?: JsonSchema;
  /** Form and multipart: content type, style and explode by property. */
  readonly encoding?: Readonly<
    Record<string, { readonly contentType?: string; readonly style?: string; readonly explode?: boolean }>
  >;
}

export interface ApiResponse {
  readonly content: Readonly<Record<string, ApiMedia>>;
  readonly headers?: Readonly<Record<string, { readonly required?: boolean; readonly schema?: JsonSchema }>>;
}
