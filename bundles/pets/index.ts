import { type Context, type Func, type Kv, reply, type Reply } from 'funcatron';

interface NewPet {
  readonly name: string;
  readonly tag?: string;
  readonly status?: 'available' | 'pending' | 'sold';
}

interface Pet extends NewPet {
  readonly id: number;
}

/**
 * Ids count up and are never used again, so the pets are the ids 1 … `last` that still have an entry. `incr` is
 * atomic: two workers never give the same id.
 */
export const addPet: Func<NewPet> = async (event, context) => {
  const { kv } = context.services;
  const id = await kv.incr('last');
  const pet: Pet = { ...event.body, id };
  await kv.set(keyOf(id), pet);
  return reply(201, pet, { location: `/pets-api/pets/${id}` });
};

export const listPets: Func = async (event, context) => {
  const { kv } = context.services;
  const { limit, tags } = event.query as { limit: number; tags?: string[] };
  const last = await kv.incr('last', 0);
  const pets: Pet[] = [];
  // A page of ids at a time: what was deleted leaves gaps.
  for (let first = 1; first <= last && pets.length < limit; first += limit) {
    for (const pet of await readPage(kv, first, Math.min(last, first + limit - 1))) {
      if (pet !== undefined && (tags === undefined || tags.includes(pet.tag ?? ''))) pets.push(pet);
    }
  }
  return pets.slice(0, limit);
};

export const getPet: Func = async (event, context) => (await readPet(context, event.params['petId'])) ?? noSuchPet();

export const replacePet: Func<NewPet> = async (event, context) => {
  const id: number = event.params['petId'];
  if ((await readPet(context, id)) === undefined) return noSuchPet();
  const pet: Pet = { ...event.body, id };
  await context.services.kv.set(keyOf(id), pet);
  return pet;
};

export const deletePet: Func = async (event, context) => {
  const wasThere = await context.services.kv.delete(keyOf(event.params['petId']));
  return wasThere ? undefined : noSuchPet();
};

function readPet(context: Context, id: number): Promise<Pet | undefined> {
  return context.services.kv.get<Pet>(keyOf(id));
}

function readPage(kv: Kv, first: number, last: number): Promise<(Pet | undefined)[]> {
  return Promise.all(Array.from({ length: last - first + 1 }, (_, n) => kv.get<Pet>(keyOf(first + n))));
}

function keyOf(id: number): string {
  return `pet:${id}`;
}

function noSuchPet(): Reply {
  return reply(404, { title: 'no such pet' });
}
