import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { packArchive, readArchive } from '../../../core/bundle/archive.ts';
import { packBundle } from '../../../core/bundle/pack.ts';
import { FuncatronError } from '../../../core/errors.ts';
import { layFiles } from '../../../runner/runtimes/folder.ts';
import { receiveUpload } from '../../../tron/upload.ts';

function documentOf(settings: string): string {
  return `openapi: 3.1.0
info: { title: Any, version: '1' }
x-funcatron: { ${settings} }
paths:
  /: { get: { operationId: a, responses: { '200': { description: ok } } } }
`;
}

describe('core/bundle/pack-files', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-pack-files-'));
    write('funcatron.yaml', documentOf('runtime: http, entry: ./run.sh'));
    write('run.sh', '#!/bin/sh\n');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function write(name: string, text: string): void {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }

  async function problemsOf(): Promise<string> {
    try {
      await packBundle(folder);
    } catch (error) {
      assert.ok(error instanceof FuncatronError);
      return `${error.code} ${(error.data.problems ?? []).map(({ message }) => message).join('; ')}`;
    }
    return 'none';
  }

  it('takes the whole folder but the document, dot files and node_modules', async () => {
    for (const name of ['lib/a/b.txt', '.git/config', '.env', 'node_modules/x/index.js']) write(name, name);
    const { files } = await readArchive((await packBundle(folder)).archive);
    assert.deepEqual([...files.keys()], ['funcatron.json', 'lib/a/b.txt', 'run.sh']);
  });

  it('gives the same digest whatever the modes of the files', async () => {
    const { digest } = await packBundle(folder);
    chmodSync(join(folder, 'run.sh'), 0o755);
    assert.equal((await packBundle(folder)).digest, digest);
  });

  it('refuses what an archive cannot hold, naming it', async () => {
    symlinkSync('run.sh', join(folder, 'link'));
    assert.match(await problemsOf(), /INVALID_BUNDLE "link" is a symbolic link/);
    rmSync(join(folder, 'link'));
    write('n'.repeat(101), '');
    assert.match(await problemsOf(), /too long a name/);
    rmSync(join(folder, 'n'.repeat(101)));
    write('a\\b', '');
    assert.match(await problemsOf(), /holds a backslash/);
  });

  it('refuses a file, and files, beyond the limits of an upload', async () => {
    write('large', '');
    truncateSync(join(folder, 'large'), 17 * 1024 * 1024);
    assert.match(await problemsOf(), /PAYLOAD_TOO_LARGE large has 17825792 bytes/);
  });

  it('refuses a command line whose program is not there, and http without one or with several calls at once', async () => {
    write('funcatron.yaml', documentOf('runtime: http, entry: bin/missing --flag'));
    assert.match(await problemsOf(), /INVALID_BUNDLE there is no bin\/missing/);
    write('funcatron.yaml', documentOf('runtime: default'));
    assert.match(await problemsOf(), /has to be told what to run/);
    write('funcatron.yaml', documentOf('runtime: http, entry: ./run.sh, concurrency: 2'));
    assert.match(await problemsOf(), /one call at a time/);
  });

  it('keeps the packages of a node bundle, and refuses one without its entry', async () => {
    write('funcatron.yaml', documentOf('runtime: node, entry: ./main.js'));
    assert.match(await problemsOf(), /INVALID_BUNDLE there is no \.\/main\.js/);
    write('main.js', 'exports.a = () => 1;');
    write('node_modules/x/index.js', '');
    const { files } = await readArchive((await packBundle(folder)).archive);
    assert.deepEqual([...files.keys()], ['funcatron.json', 'main.js', 'node_modules/x/index.js', 'run.sh']);
  });

  it('is taken in by tron, which does not look for exports', async () => {
    const { archive, digest } = await packBundle(folder);
    const upload = await receiveUpload(once(archive));
    assert.deepEqual([upload.record.digest, upload.record.manifest.concurrency], [digest, 1]);
  });

  it('cannot be smuggled past tron as a bundle of js with files of its own', async () => {
    const { archive } = await packBundle(folder);
    const { files } = await readArchive(archive);
    const text = files.get('funcatron.json')?.toString().replace('"runtime": "http"', '"runtime": "js"') ?? '';
    const forged = await packArchive(new Map(files).set('funcatron.json', Buffer.from(text)));
    await assert.rejects(receiveUpload(once(forged.archive)), {
      code: 'INVALID_BUNDLE',
      message: /run\.sh does not belong/,
    });
  });

  it('is laid down read-only, programs executable, and mended when it was changed', async () => {
    const target = join(folder, 'laid');
    const files = new Map([
      ['run', Buffer.from('#!/bin/sh\n')],
      ['lib/data.bin', Buffer.from([0, 1, 2])],
    ]);
    await layFiles(target, files);
    assert.equal((await stat(join(target, 'run'))).mode & 0o777, 0o555);
    assert.equal((await stat(join(target, 'lib/data.bin'))).mode & 0o777, 0o444);
    rmSync(join(target, 'run'));
    write('laid/run', 'changed');
    await Promise.all([layFiles(target, files), layFiles(target, files)]);
    assert.equal((await readFile(join(target, 'run'))).toString(), '#!/bin/sh\n');
  });
});

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  await Promise.resolve();
  yield bytes;
}
