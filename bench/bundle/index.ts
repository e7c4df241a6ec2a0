import type { Func } from 'funcatron';

export const greet: Func = (event) => ({ hello: event.params.name, body: event.body });
