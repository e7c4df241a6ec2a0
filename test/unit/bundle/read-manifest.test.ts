import assert from 'node:assert/strict';
import schema from '../../../swagger/funcatron.schema.json' with { type: 'json' };
import { type OperationSettings, readManifest } from '../../../core/bundle/read-manifest.ts';
import type { Problem } from '../../../core/errors.ts';
import type { JsonObject } from '../../../core/openapi/api.ts';

const INFO = { title: 'Pet Störe (v2)!', version: '1' };

function problemsOf(settings: unknown): readonly string[] {
  const { problems } = readManifest({ info: INFO, 'x-funcatron': settings } as JsonObject);
  return problems.map(
    (problem) => `${problem.pointer} ${problem.message}${problem.hint?.startsWith('Did') ? ` ${problem.hint}` : ''}`,
  );
}

function operationOf(top: object, near: object): { settings: OperationSettings; problems: readonly string[] } {
  const problems: Problem[] = [];
  const reading = readManifest({ info: INFO, 'x-funcatron': top } as unknown as JsonObject);
  const settings = reading.operation({ 'x-funcatron': near } as unknown as JsonObject, '/op', problems);
  return {
    settings,
    problems: [...reading.problems, ...problems].map((problem) => `${problem.pointer} ${problem.message}`),
  };
}

describe('core/bundle/read-manifest', () => {
  it('fills in every default', () => {
    const { manifest, host, problems } = readManifest({ info: INFO });
    assert.deepEqual(problems, []);
    assert.equal(host, undefined);
    assert.deepEqual(manifest, {
      name: 'pet-store-v2',
      runtime: 'js',
      entry: 'index.ts',
      isolation: 'process',
      memoryMb: 128,
      concurrency: 100,
      workers: { min: 1, max: 2 },
      config: {},
      services: {},
      idleTimeoutS: 30,
      state: 'kept',
      fetchAllow: [],
      secrets: [],
      logLevel: 'debug',
      stackTraces: true,
      permissions: { net: false, fs: { read: [], write: [] }, child: false },
    });
  });

  it('takes what is written', () => {
    const settings = {
      name: 'pets',
      host: 'a.example',
      runtime: 'js',
      entry: 'src/main.ts',
      isolation: 'process',
      memoryMb: 64,
      timeoutMs: 1000,
      concurrency: 5,
      workers: { min: 3 },
      config: { a: [1] },
      services: { kv: { type: 'kv' } },
      fetch: { allow: ['10.0.0.1:80', 'db.internal', '[::1]:5432'] },
      stackTraces: false,
      validateResponses: true,
      http: true,
    };
    const { manifest, host, problems } = readManifest({ info: INFO, host: 'b.example', 'x-funcatron': settings });
    assert.deepEqual(problems, []);
    assert.equal(host, 'a.example');
    assert.deepEqual([manifest.name, manifest.workers, manifest.config], ['pets', { min: 3, max: 3 }, { a: [1] }]);
    assert.deepEqual(manifest.fetchAllow, ['10.0.0.1:80', 'db.internal', '[::1]:5432']);
    assert.deepEqual([manifest.services, manifest.stackTraces], [{ kv: { type: 'kv' } }, false]);
  });

  it('takes the host of a Swagger 2.0 document where x-funcatron has none', () => {
    assert.equal(readManifest({ info: INFO, host: 'b.example' }).host, 'b.example');
  });

  it('refuses keys it does not know, with the one that was probably meant', () => {
    assert.deepEqual(problemsOf({ memoryMB: 64, workers: { maxx: 1 }, xyz: 1 }), [
      '/x-funcatron/memoryMB memoryMB is not a key of x-funcatron Did you mean memoryMb?',
      '/x-funcatron/xyz xyz is not a key of x-funcatron',
      '/x-funcatron/workers/maxx maxx is not a key of workers Did you mean max?',
    ]);
    assert.deepEqual(operationOf({}, { handlr: 'x', memoryMb: 64 }).problems, [
      '/op/x-funcatron/handlr handlr is not a key of x-funcatron',
      '/op/x-funcatron/memoryMb memoryMb is not a key of x-funcatron',
    ]);
  });

  const later: readonly (readonly [string, object, string])[] = [
    ['triggers', { triggers: {} }, '/x-funcatron/triggers triggers'],
  ];
  for (const [what, settings, message] of later) {
    it(`refuses ${what} as not in this version`, () => {
      assert.deepEqual(problemsOf(settings), [`${message} is not in this version`]);
    });
  }

  it('takes services with values of their own or the names of secrets', () => {
    const services = {
      db: { type: 'postgres', url: { secret: 'DB_URL' } },
      crm: { type: 'http', baseUrl: 'https://crm.test/v1', headers: { authorization: { secret: 'CRM' } } },
    };
    const { manifest, problems } = readManifest({ info: INFO, 'x-funcatron': { services, secrets: ['TOKEN'] } });
    assert.deepEqual(problems, []);
    assert.deepEqual(manifest.services, { ...services, db: { ...services.db, poolMax: 5 } });
    assert.deepEqual(manifest.secrets, ['TOKEN']);
  });

  it('refuses unknown types and keys of services with the nearest one', () => {
    const db = { type: 'postgres', url: { secret: 'DB_URL' } };
    const problems = [
      { db: { ...db, type: 'postgre' } },
      { db: { ...db, poolMx: 3 } },
      { db: { ...db, url: { secrt: 'X' } } },
      { db: { type: 'postgres' } },
      { kv: { type: 'kv', url: 'redis://x' } },
      { db: { typ: 'postgres', url: 'x' } },
    ].flatMap((services) => readManifest({ info: INFO, 'x-funcatron': { services } }).problems);
    assert.deepEqual(
      problems.map(({ message, hint }) => [message, hint]),
      [
        ['postgre is not a type of service', 'Did you mean postgres?'],
        ['poolMx is not a key of services.db', 'Did you mean poolMax?'],
        ['secrt is not a key of services.db.url', 'Did you mean secret?'],
        [
          'services.db.url is required',
          'A value, or {secret: NAME}: one the operator keeps, which never reaches the func. For example url: { secret: DB_URL }',
        ],
        ['url is not a key of services.kv', 'The keys of services.kv are type.'],
        ['typ is not a key of services.db', 'Did you mean type?'],
      ],
    );
  });

  it('refuses keys that mean nothing to the runtime', () => {
    assert.deepEqual(problemsOf({ permissions: { net: true } }), [
      '/x-funcatron/permissions permissions mean nothing to runtime js',
    ]);
    assert.deepEqual(problemsOf({ runtime: 'http', entry: 'x', services: { kv: { type: 'kv' } } }), [
      '/x-funcatron/services services mean nothing to runtime http',
    ]);
    assert.deepEqual(problemsOf({ runtime: 'node', state: 'fresh' }), [
      '/x-funcatron/state state fresh is not to be had from runtime node: its program is loaded once',
    ]);
    assert.deepEqual(problemsOf({ runtime: 'python', isolation: 'strict' }), [
      '/x-funcatron/isolation isolation strict is not to be had from runtime python: it runs programs of the machine',
    ]);
    assert.equal(problemsOf({ runtime: 'pyton', services: { kv: { type: 'kv' } } }).length, 1);
  });

  it('takes the permissions of a node bundle, and denies what is not declared', () => {
    const permissions = { fs: { read: ['/data/*'] }, child: true };
    const { manifest, problems } = readManifest({ info: INFO, 'x-funcatron': { runtime: 'node', permissions } });
    assert.deepEqual(problems, []);
    assert.deepEqual(manifest.permissions, { net: false, fs: { read: ['/data/*'], write: [] }, child: true });
    assert.deepEqual(problemsOf({ runtime: 'node', permissions: { fs: { read: ['data'] } } }).length, 1);
  });

  it('gives a python bundle one call at a time, and an entry of its own', () => {
    const { manifest } = readManifest({ info: INFO, 'x-funcatron': { runtime: 'python' } });
    assert.deepEqual([manifest.entry, manifest.concurrency], ['main:handler', 1]);
  });

  it('refuses values out of bounds and of the wrong kind, each at its pointer', () => {
    const settings = {
      name: 'No Spaces',
      memoryMb: 16,
      concurrency: 1001,
      workers: { min: 3, max: 2 },
      config: [],
      timeoutMs: '5s',
      runtime: 'perl',
    };
    assert.deepEqual(
      problemsOf(settings)
        .map((problem) => problem.split(' ', 1)[0] ?? '')
        .sort(),
      [
        '/x-funcatron/concurrency',
        '/x-funcatron/config',
        '/x-funcatron/memoryMb',
        '/x-funcatron/name',
        '/x-funcatron/runtime',
        '/x-funcatron/timeoutMs',
        '/x-funcatron/workers/max',
      ],
    );
    assert.deepEqual(problemsOf('yes'), ['/x-funcatron x-funcatron must be a mapping of keys, not text']);
    assert.deepEqual(problemsOf({ services: { 'not a name': { type: 'kv' } } }).length, 1);
    assert.deepEqual(problemsOf({ services: { kv: {} } }), [
      '/x-funcatron/services/kv/type services.kv.type is required',
    ]);
  });

  it('asks for a name where the title has nothing a name can be made of', () => {
    const { problems } = readManifest({ info: { title: '日本', version: '1' } });
    assert.deepEqual(
      problems.map((problem) => problem.pointer),
      ['/x-funcatron/name'],
    );
    assert.equal(readManifest({ info: { title: `${'a'.repeat(62)}--b`, version: '1' } }).manifest.name, 'a'.repeat(62));
  });

  it('lets the operation win over the top', () => {
    const { settings } = operationOf(
      { timeoutMs: 1000, validateResponses: true, http: false, direct: true, maxBodyBytes: 10 },
      { timeoutMs: 50, http: true, handler: 'h', idempotent: true, direct: false, maxBodyBytes: 20 },
    );
    assert.deepEqual(settings, {
      handler: 'h',
      timeoutMs: 50,
      idempotent: true,
      validateResponses: true,
      http: true,
      direct: false,
      maxBodyBytes: 20,
    });
    assert.deepEqual(operationOf({}, {}).settings, {
      handler: undefined,
      timeoutMs: 30_000,
      idempotent: undefined,
      validateResponses: false,
      http: true,
      direct: false,
      maxBodyBytes: undefined,
    });
  });

  it('allows no timeout, and more than 15 minutes, only off HTTP', () => {
    assert.deepEqual(operationOf({ timeoutMs: 0, http: false }, {}).problems, []);
    assert.deepEqual(operationOf({}, { timeoutMs: 3_600_000, http: false }).problems, []);
    const refusal = 'is not 1 … 900000, which an HTTP operation may take';
    assert.deepEqual(operationOf({ timeoutMs: 0 }, {}).problems, [`/x-funcatron/timeoutMs timeoutMs 0 ${refusal}`]);
    assert.deepEqual(operationOf({}, { timeoutMs: 900_001 }).problems, [
      `/op/x-funcatron/timeoutMs timeoutMs 900001 ${refusal}`,
    ]);
  });

  it('says with every refusal what to write instead, and repeats no text that may be a secret', () => {
    const secret = 'hunter2 ';
    for (const definition of [schema.$defs.bundle, schema.$defs.operation]) {
      for (const key of Object.keys(definition.properties)) {
        for (const value of [secret, -1, 1.5, 1e9, true, [secret], [[]], { [`${key}x`]: secret }, null]) {
          const problems: Problem[] = [];
          const given = { 'x-funcatron': { [key]: value } } as unknown as JsonObject;
          const reading = readManifest(definition === schema.$defs.bundle ? { info: INFO, ...given } : { info: INFO });
          if (definition === schema.$defs.operation) reading.operation(given, '/op', problems);
          for (const { message, pointer = '', hint = '' } of [...reading.problems, ...problems]) {
            assert.ok(hint.length > 0, `${message} has no hint`);
            assert.ok(!message.includes(secret), message);
            assert.match(pointer, new RegExp(`/x-funcatron/${key}`));
          }
        }
      }
    }
  });

  const hints: readonly (readonly [object, string, string])[] = [
    [
      { secrets: ['DB-URL'] },
      "secrets.0 is not a secret's name",
      'Letters, digits and _, no digit first, at most 63. For example DB_URL',
    ],
    [
      { services: { 'my-db': { type: 'kv' } } },
      "my-db in services is not a service's name",
      'Letters, digits and _, no digit first, at most 63, as in context.services.my_db.',
    ],
    [
      { memoryMb: 16 },
      'memoryMb must be at least 32, not 16',
      'Memory of one worker, in MiB. For example memoryMb: 256',
    ],
    [{ workers: { maximum: 3 } }, 'maximum is not a key of workers', 'Did you mean max?'],
    [{ logLevel: 'warning' }, 'logLevel must be one of debug, info, warn, error', 'Did you mean warn?'],
    [{ handler: 'x' }, 'handler is not a key of x-funcatron', 'It belongs to x-funcatron of an operation.'],
    [{ workers: { a: 1 } }, 'a is not a key of workers', 'The keys of workers are min, max.'],
  ];
  for (const [settings, message, hint] of hints) {
    it(`answers ${JSON.stringify(settings)} with a hint`, () => {
      const { problems } = readManifest({ info: INFO, 'x-funcatron': settings } as unknown as JsonObject);
      assert.deepEqual(
        problems.map((problem) => [problem.message, problem.hint]),
        [[message, hint]],
      );
    });
  }
});
