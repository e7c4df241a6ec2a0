import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openEmbedded, type EmbeddedCluster } from '../helpers/embedded.ts';
import { needPython } from '../helpers/programs.ts';
import { usePostgres } from '../helpers/servers/postgres.ts';

/** Python handlers and the runner's services, in a whole cluster with a PostgreSQL. */

const MAIN = `
def init_context(context):
    context.services.db.query('create table if not exists orders (name text primary key)')

def order(context, event):
    db, kv = context.services.db, context.services.kv
    db.query('insert into orders (name) values ($1)', [event.query['name']])
    if event.query.get('next') == 'raise':
        raise ValueError('no')
    if event.query.get('next') == 'break':
        try:
            db.query('select 1/0')
        except context.ServiceError as error:
            return error.code
    names = [row['name'] for row in db.query('select name from orders order by name').rows]
    return {'names': names, 'calls': kv.incr('calls')}

def twice(context, event):
    first = context.invoke('orders', 'order', query={'name': event.query['name']})
    try:
        context.invoke('orders', 'order', query={'name': event.query['name']})
    except context.ServiceError as error:
        return [first.json(), error.code]
`;

describe('services of a python bundle', function () {
  this.timeout(60_000);
  const postgres = usePostgres();
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-python-'));
  let cluster: EmbeddedCluster | undefined;

  before(function () {
    needPython(this);
  });
  before(async () => {
    const secretsDir = join(folder, 'secrets');
    const bundle = join(folder, 'bundle');
    for (const each of [secretsDir, bundle]) mkdirSync(each);
    writeFileSync(join(secretsDir, 'DB_URL'), postgres.server().url);
    writeFileSync(join(bundle, 'main.py'), MAIN);
    writeFileSync(join(bundle, 'funcatron.json'), JSON.stringify(DOCUMENT));
    cluster = await openEmbedded({ secretsDir });
    await cluster.deploy(bundle);
  });
  after(async () => {
    await cluster?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function post(path: string): Promise<readonly [number, unknown]> {
    const response = await fetch(`${cluster?.httpUrl}/orders/${path}`, { method: 'POST' });
    const body = (await response.json()) as { code?: string };
    return [response.status, body.code ?? body];
  }

  it('keep what a call did when it succeeds, and undo it when its handler raises or hides a failure', async () => {
    assert.deepEqual(await post('order?name=a'), [200, { names: ['a'], calls: 1 }]);
    assert.deepEqual(await post('order?name=b&next=raise'), [500, 'FUNC_ERROR']);
    assert.deepEqual(await post('order?name=c&next=break'), [500, 'COMMIT_FAILED']);
    assert.deepEqual(await post('order?name=d'), [200, { names: ['a', 'd'], calls: 2 }]);
  });

  it('call other funcs, whose failures have their codes', async () => {
    assert.deepEqual(await post('twice?name=e'), [200, [{ names: ['a', 'd', 'e'], calls: 3 }, 'FUNC_ERROR']]);
  });
});

const PARAMETERS = ['name', 'next'].map((name) => ({ name, in: 'query', schema: { type: 'string' } }));
const OPERATION = { parameters: PARAMETERS, responses: { 200: { description: 'fine' } } };
const DOCUMENT = {
  openapi: '3.1.0',
  info: { title: 'orders', version: '1.0.0' },
  servers: [{ url: '/orders' }],
  'x-funcatron': {
    runtime: 'python',
    secrets: ['DB_URL'],
    services: { kv: { type: 'kv' }, db: { type: 'postgres', url: { secret: 'DB_URL' }, poolMax: 2 } },
  },
  paths: {
    '/order': { post: { ...OPERATION, operationId: 'order' } },
    '/twice': { post: { ...OPERATION, operationId: 'twice' } },
  },
};
