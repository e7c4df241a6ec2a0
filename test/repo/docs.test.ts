import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ERRORS } from '../../core/errors.ts';

const root = join(import.meta.dirname, '../..');

describe('docs', () => {
  it('are what the tables in the code say', () => {
    const { status, stderr } = spawnSync(process.execPath, ['tools/docs.mjs', '--check'], {
      cwd: root,
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
  });

  it('link only to files that exist', () => {
    const documents = globSync('{*.md,docs/*.md,bundles/*/README.md}', { cwd: root });
    assert.ok(documents.length > 3);
    const broken = documents.flatMap((file) =>
      [...readFileSync(join(root, file), 'utf8').matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)]
        .map((match) => join(root, dirname(file), match[1] ?? ''))
        .filter((target) => !existsSync(target))
        .map((target) => `${file} → ${target}`),
    );
    assert.deepEqual(broken, []);
  });

  it('name no setting that does not exist', () => {
    const known = readFileSync(join(root, 'docs/config.md'), 'utf8');
    const others = new Set([
      'FUNCATRON_BROKER_PASSWORD',
      'FUNCATRON_TEST_INSTALL',
      'FUNCATRON_TEST_AMQP_URL',
      'FUNCATRON_TEST_REDIS_URL',
    ]);
    for (const file of globSync('{*.md,docs/*.md}', { cwd: root })) {
      for (const [name] of readFileSync(join(root, file), 'utf8').matchAll(/\bFUNCATRON_[A-Z_]+[A-Z]\b/g)) {
        assert.ok(others.has(name) || known.includes(`\`${name}\``), `${file} names ${name}`);
      }
    }
  });
});

describe('error codes', () => {
  it('are each produced by a test', () => {
    const tests = globSync('{test,bundles}/**/*.test.ts', { cwd: root }).concat(
      globSync('test/contract/*.ts', { cwd: root }),
    );
    const text = tests
      .filter((file) => !file.endsWith('docs.test.ts'))
      .map((file) => readFileSync(join(root, file), 'utf8'))
      .join('\n');
    const untested = Object.keys(ERRORS).filter((code) => !text.includes(`'${code}'`));
    assert.deepEqual(untested, []);
  });
});
