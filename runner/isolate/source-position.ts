import { SourceMap } from 'node:module';
import { inflateSync } from 'node:zlib';
import { BUNDLE_FILE } from './bridge.ts';

/** Positions in `bundle.js`, as stacks give them, said in the author's own files. */
export type MapPositions = (stack: string) => string;

const POSITION = new RegExp(`${BUNDLE_FILE.replace('.', '\\.')}:(\\d{1,9}):(\\d{1,9})`, 'g');
/** Longest map that is read: beyond it, positions stay as they are. */
const MAP_BYTES = 16 * 1024 * 1024;

/**
 * Replaces every `bundle.js:LINE:COLUMN` of a text by `src/orders.ts:LINE:COLUMN` where the map knows it.
 * The map comes with the bundle, deflated, and is read at the first error only; one that is no map changes nothing.
 */
export function createPositionMapper(sourceMap: Buffer | undefined): MapPositions {
  let map: SourceMap | undefined;
  let isRead = false;
  return (stack) => {
    if (!isRead) {
      map = readMap(sourceMap);
      isRead = true;
    }
    const found = map;
    if (found === undefined) return stack;
    return stack.replaceAll(POSITION, (position, line: string, column: string) => {
      return origin(found, Number(line), Number(column)) ?? position;
    });
  };
}

function readMap(deflated: Buffer | undefined): SourceMap | undefined {
  if (deflated === undefined) return undefined;
  try {
    return new SourceMap(JSON.parse(inflateSync(deflated, { maxOutputLength: MAP_BYTES }).toString()));
  } catch {
    return undefined;
  }
}

function origin(map: SourceMap, line: number, column: number): string | undefined {
  try {
    const found = map.findOrigin(line, column);
    return 'fileName' in found ? `${found.fileName}:${found.lineNumber}:${found.columnNumber}` : undefined;
  } catch {
    return undefined;
  }
}
