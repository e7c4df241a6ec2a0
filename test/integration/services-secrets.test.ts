import assert from 'node:assert/strict';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newId } from '../../core/id.ts';
import { createLog } from '../../core/log.ts';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { JS_ISOLATES } from '../contract/isolate-harness.ts';
import { runCli, startCli } from '../helpers/cli.ts';
import { freePort } from '../helpers/servers/port.ts';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { useRedis } from '../helpers/servers/redis.ts';
import { until } from '../helpers/until.ts';
import { openTestRunner, type TestRunner } from '../unit/runner/test-runner.ts';

const source = `
exports.init = async ({ secrets }) => { if (secrets.OPEN === undefined) throw new Error('no secret'); };
exports.fail = async (event, { services }) => {
  const said = [];
  for (const use of [
    () => services.db.query('select 1'),
    () => services.gone.get('a'),
    () => services.cache.get('a'),
    () => services.bus.publish('', 'x', 'y'),
    () => services.crm.fetch('/x'),
  ]) {
    try { await use(); said.push('ok'); } catch (error) { said.push(error.code, error.message, error.stack); console.error(error); }
  }
  return said;
};
exports.throws = async (event, { services }) => await services.db.query('select 1');
`;

const services = {
  db: { type: 'postgres', url: { secret: 'DB' }, poolMax: 2 },
  gone: { type: 'redis', url: { secret: 'GONE' } },
  cache: { type: 'redis', url: { secret: 'CACHE' } },
  bus: { type: 'amqp', url: { secret: 'BUS' } },
  crm: { type: 'http', baseUrl: { secret: 'CRM' }, headers: { authorization: { secret: 'CRM_TOKEN' } } },
} as const;

interface KeptSecrets {
  /** Where nobody listens. */
  readonly port: number;
  /** Which secrets a text holds. */
  readonly saidIn: (text: string) => readonly string[];
}

/** Writes the operator's files of `services` into `<folder>/secrets`: servers that are not there, or do not know the password. */
async function keepSecrets(folder: string, redisUrl: string, rabbitUrl: string): Promise<KeptSecrets> {
  const password = `p${newId()}`;
  const open = `open-${newId()}`;
  const port = await freePort();
  const withPassword = (text: string): string => {
    const url = new URL(text);
    url.username = 'user';
    url.password = password;
    return url.href;
  };
  const values = {
    OPEN: open,
    DB: `postgres://user:${password}@127.0.0.1:${port}/db`,
    GONE: `redis://user:${password}@127.0.0.1:${port}/0`,
    CACHE: withPassword(redisUrl),
    BUS: withPassword(rabbitUrl),
    CRM: `http://user:${password}@127.0.0.1:${port}/${password}/`,
    CRM_TOKEN: `Bearer ${password}`,
  };
  mkdirSync(join(folder, 'secrets'));
  for (const [name, value] of Object.entries(values)) writeFileSync(join(folder, 'secrets', name), value);
  const basic = Buffer.from(`user:${password}`).toString('base64');
  const kept = { 'the password': password, 'the password in base64': basic, 'the secret of the func': open };
  return {
    port,
    saidIn: (text) => Object.entries(kept).flatMap(([what, value]) => (text.includes(value) ? [what] : [])),
  };
}

for (const [name, openIsolate] of Object.entries(JS_ISOLATES))
  describe(`secrets in ${name}`, function () {
    this.timeout(60_000);
    const redis = useRedis();
    const rabbit = useRabbit();
    let folder: string;
    let isolate: IsolateKind;
    let test: TestRunner | undefined;
    let fd: number;

    before(() => {
      isolate = openIsolate();
    });
    after(async () => await isolate?.close?.());
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'funcatron-secrets-'));
      fd = openSync(join(folder, 'log'), 'w');
    });
    afterEach(async () => {
      await test?.close();
      test = undefined;
      closeSync(fd);
      rmSync(folder, { recursive: true, force: true });
    });

    it('are said nowhere, whatever goes wrong with the services that use them', async () => {
      const { port, saidIn } = await keepSecrets(folder, redis.url(), rabbit.url());
      test = await openTestRunner({
        operations: [{ operationId: 'fail' }, { operationId: 'throws' }],
        isolate,
        source,
        log: createLog({ level: 'debug', role: 'test', fd }),
        config: { secretsDir: join(folder, 'secrets') },
        manifest: { secrets: ['OPEN'], services },
      });
      const { body: said } = await test.call(0, { timeoutMs: 20_000 });
      const codes = (JSON.parse(said) as string[]).filter((text) => /^[A-Z_]+$/.test(text));
      assert.deepEqual(codes, ['SERVICE_DOWN', 'SERVICE_DOWN', 'SERVICE_DOWN', 'SERVICE_DOWN', 'SERVICE_DOWN']);
      const answer = await test.call(1);
      assert.equal(answer.code, 'FUNC_ERROR');
      const { lines, reports, runner, folder: data } = test;
      await until('the lines have come', () => lines.some(({ operationId }) => operationId === 'throws'));
      await test.report();
      const metrics = await (await fetch(`http://127.0.0.1:${runner.adminPort}/metrics`)).text();
      const files = readdirSync(data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
      const everything: Record<string, string> = {
        said,
        answer: answer.body,
        metrics,
        lines: JSON.stringify(lines),
        reports: JSON.stringify(reports),
        log: readFileSync(join(folder, 'log'), 'utf8'),
        ...Object.fromEntries(
          files.map((file) => [file.name, readFileSync(join(file.parentPath, file.name), 'latin1')]),
        ),
      };
      assert.ok((everything['log'] ?? '').length > 100);
      for (const [where, text] of Object.entries(everything)) {
        assert.deepEqual(saidIn(text), [], where);
        assert.ok(!text.includes(String(port)) || where === 'metrics', `the port of a service is in ${where}`);
      }
    });

    it('that are missing fail the deploy, which names the file to create', async () => {
      mkdirSync(join(folder, 'shop'));
      writeFileSync(join(folder, 'shop', 'OPEN'), 'x');
      test = await openTestRunner({
        operations: [{ operationId: 'fail' }],
        isolate,
        source,
        config: { secretsDir: folder },
        manifest: { secrets: ['OPEN'], services: { db: { type: 'postgres', url: { secret: 'DB' }, poolMax: 2 } } },
        waits: false,
      });
      const { reports } = test;
      await until('it has failed', () => reports.at(-1)?.revisions[0]?.state === 'failed');
      const error = reports.at(-1)?.revisions[0]?.error;
      assert.equal(error?.code, 'DEPLOY_FAILED');
      assert.equal(error?.message, 'bundle shop needs secret DB, which this runner does not have');
      assert.match(error?.hint ?? '', new RegExp(`${join(folder, 'shop', 'DB')} on the runner`));
    });

    for (const [what, url] of [
      ['a server the operator does not allow', 'redis://127.0.0.1:6379'],
      ['an allowed host that hides another one', 'postgres://db.test/x?host=127.0.0.1'],
    ] as const) {
      it(`written in the manifest instead of kept cannot name ${what}`, async () => {
        const type = url.startsWith('redis') ? 'redis' : 'postgres';
        test = await openTestRunner({
          operations: [{ operationId: 'fail' }],
          isolate,
          source,
          config: { secretsDir: folder, fetchAllow: 'db.test' },
          manifest: { services: { db: type === 'redis' ? { type, url } : { type, url, poolMax: 1 } } },
          waits: false,
        });
        const { reports } = test;
        await until('it has failed', () => reports.at(-1)?.revisions[0]?.state === 'failed');
        assert.match(reports.at(-1)?.revisions[0]?.error?.message ?? '', /names a server this runner does not allow/);
      });
    }
  });

describe('secrets in a whole cluster', function () {
  this.timeout(60_000);
  const redis = useRedis();
  const rabbit = useRabbit();
  let folder: string;

  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'funcatron-secrets-'))));
  afterEach(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

  function writeBundle(code: string): string {
    const bundle = join(folder, 'shop');
    mkdirSync(bundle, { recursive: true });
    const operation = (operationId: string): object => ({
      get: { operationId, responses: { default: { description: 'any' } } },
    });
    const document = {
      openapi: '3.1.0',
      info: { title: 'shop', version: '1' },
      'x-funcatron': { entry: 'index.js', secrets: ['OPEN'], services },
      paths: { '/fail': operation('fail'), '/throws': operation('throws') },
    };
    writeFileSync(join(bundle, 'funcatron.json'), JSON.stringify(document));
    writeFileSync(join(bundle, 'index.js'), code.replaceAll('exports.', 'export const '));
    return bundle;
  }

  it('are in no answer, route, log line, file or refused deploy of frontend and Tron', async () => {
    const { saidIn } = await keepSecrets(folder, redis.url(), rabbit.url());
    const token = `token-${newId()}`;
    const data = join(folder, 'data');
    const env = { FUNCATRON_TOKEN: token, FUNCATRON_DATA: data };
    const everything: Record<string, string> = {};
    const read = async (url: string, own: Record<string, string> = {}, method = 'GET'): Promise<string> => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...own };
      const response = await fetch(url, { method, headers, ...(method === 'GET' ? {} : { body: '{}' }) });
      return (everything[url] = `${response.status} ${JSON.stringify([...response.headers])} ${await response.text()}`);
    };
    const flags = [
      '--http-port',
      '0',
      '--tron-port',
      '0',
      '--log-level',
      'debug',
      '--secrets',
      join(folder, 'secrets'),
    ];
    const up = startCli(['up', writeBundle(source), ...flags], { env });
    try {
      const http = await up.says(/HTTP calls +(\S+)/);
      const tron = await up.says(/management API +(\S+)/);
      const logged = { 'x-funcatron-log': 'body', 'x-funcatron-log-level': 'debug' };
      assert.match(await read(`${http}/fail`, logged), /^200 .*SERVICE_DOWN/);
      assert.match(await read(`${http}/throws`, logged), /^500 .*FUNC_ERROR/);
      const invoked = await read(`${tron}/bundles/shop/operations/fail/invoke`, {}, 'POST');
      assert.match(invoked, /SERVICE_DOWN/);
      const ofFrontend = ['health', 'docs', 'openapi.json'].map((path) => `${http}/_funcatron/${path}`);
      const ofTron = [
        'bundles',
        'bundles/shop',
        'bundles/shop/revisions',
        'routes',
        'runners',
        'frontends',
        'openapi.json',
      ];
      for (const url of [...ofFrontend, ...ofTron.map((path) => `${tron}/${path}`)])
        assert.match(await read(url), /^200 /);
      const usesInInit = `async ({ secrets, services }) => { await services.db.query('select 1');`;
      writeBundle(source.replace('async ({ secrets }) => {', usesInInit));
      for (const args of [['deploy', join(folder, 'shop')], ['describe', 'shop'], ['logs', 'shop'], ['doctor']]) {
        const { stdout, stderr } = await runCli(args, { env });
        everything[args.join(' ')] = stdout + stderr;
      }
      assert.match(everything[`deploy ${join(folder, 'shop')}`] ?? '', /DEPLOY_FAILED/);
      assert.match(everything['logs shop'] ?? '', /func throws threw/);
      await read(`${tron}/logs?bundle=shop&level=debug`);
    } finally {
      up.child.kill('SIGTERM');
      await up.ended;
    }
    const output = up.stdout() + up.stderr();
    for (const role of ['tron', 'frontend', 'runner']) assert.match(output, new RegExp(`"role":"${role}"`));
    everything['the output of up'] = output;
    for (const file of readdirSync(data, { recursive: true, withFileTypes: true })) {
      if (file.isFile()) everything[file.name] = readFileSync(join(file.parentPath, file.name), 'latin1');
    }
    for (const [where, text] of Object.entries(everything)) {
      assert.deepEqual(saidIn(text), [], where);
      assert.ok(!text.includes(token), `the management token is in ${where}`);
    }
  });
});
