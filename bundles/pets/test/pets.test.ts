import assert from 'node:assert/strict';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';

interface Pet {
  readonly id: number;
  readonly name: string;
  readonly tag?: string;
}

describe('bundles/pets', () => {
  let cluster: EmbeddedCluster;
  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    await cluster.deploy('bundles/pets');
  });
  after(() => cluster.close());

  function call(method: string, path: string, body?: unknown): Promise<Response> {
    const init =
      body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    return fetch(`${cluster.httpUrl}/pets-api/pets${path}`, { method, ...init });
  }

  async function add(name: string, tag: string): Promise<Pet> {
    return (await (await call('POST', '', { name, tag })).json()) as Pet;
  }

  it('creates, reads, replaces and deletes a pet', async () => {
    const created = await call('POST', '', { name: 'Rex', tag: 'dog' });
    const pet = (await created.json()) as Pet;
    assert.equal(created.status, 201);
    assert.equal(created.headers.get('location'), `/pets-api/pets/${pet.id}`);
    assert.deepEqual(await (await call('GET', `/${pet.id}`)).json(), { name: 'Rex', tag: 'dog', id: pet.id });

    const replaced = await call('PUT', `/${pet.id}`, { name: 'Rex', status: 'sold' });
    assert.deepEqual(await replaced.json(), { name: 'Rex', status: 'sold', id: pet.id });

    assert.equal((await call('DELETE', `/${pet.id}`)).status, 204);
    for (const method of ['GET', 'DELETE']) assert.equal((await call(method, `/${pet.id}`)).status, 404);
    assert.equal((await call('PUT', `/${pet.id}`, { name: 'Rex' })).status, 404);
  });

  it('gives every pet an id of its own, also when many come at once', async () => {
    const pets = await Promise.all(Array.from({ length: 50 }, (_, n) => add(`pet ${n}`, 'many')));
    assert.equal(new Set(pets.map(({ id }) => id)).size, 50);
  });

  it('lists pets oldest first, by tag, over the gaps that deleted ones leave', async () => {
    const cats = [await add('Tom', 'cat'), await add('Kit', 'cat'), await add('Leo', 'lion'), await add('Cleo', 'cat')];
    await call('DELETE', `/${cats[0]?.id}`);
    const list = async (query: string): Promise<string[]> =>
      ((await (await call('GET', query)).json()) as Pet[]).map(({ name }) => name);
    assert.deepEqual(await list('?tags=cat,lion'), ['Kit', 'Leo', 'Cleo']);
    assert.deepEqual(await list('?tags=cat,lion&limit=2'), ['Kit', 'Leo']);
  });

  it('refuses what the document does not allow', async () => {
    assert.equal((await call('POST', '', { name: '' })).status, 400);
    assert.equal((await call('POST', '', { name: 'Rex', status: 'lost' })).status, 400);
    assert.equal((await call('GET', '/none')).status, 400);
    assert.equal((await call('GET', '?limit=1000')).status, 400);
  });
});
