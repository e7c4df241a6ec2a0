/**
 * Stands for `node:vm` in the host of `strict`: the text of a script is kept, because it is compiled in another isolate.
 * What `compileFunction` says of a text is V8's word there too.
 */
export { compileFunction } from 'node:vm';

export class Script {
  readonly text: string;
  readonly filename: string;
  readonly columnOffset: number;

  constructor(text: string, { filename, columnOffset = 0 }: { filename: string; columnOffset?: number }) {
    this.text = text;
    this.filename = filename;
    this.columnOffset = columnOffset;
  }

  /** None: it would have to come out of the other isolate. */
  createCachedData(): undefined {
    return undefined;
  }
}
