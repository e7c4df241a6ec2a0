import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A JSON body of about so many bytes that the bench bundle's document allows. */
export function bodyOf(bytes: number): string {
  const call = { title: 'a call of about two hundred bytes', count: 7, tags: ['alpha', 'beta', 'gamma'], note: '' };
  return JSON.stringify({ ...call, note: 'x'.repeat(Math.max(0, bytes - JSON.stringify(call).length)) });
}

/** What calls carry unless they say otherwise: about 200 bytes of JSON. */
export const BODY = bodyOf(200);

const files = new Map<string, string>();

/** A file that holds `body`; the same one every time. */
export function bodyFile(body: string): string {
  let file = files.get(body);
  if (file === undefined) {
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-bench-body-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    file = join(folder, 'body.json');
    writeFileSync(file, body);
    files.set(body, file);
  }
  return file;
}
