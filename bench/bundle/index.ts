import type { Func } from 'funcatron';

export const greet: Func = (event) => ({ hello: event.params.name, body: event.body });

export const greetAndLog: Func = (event, context) => {
  context.log.info('greeted', { name: event.params.name });
  return { hello: event.params.name, body: event.body };
};
