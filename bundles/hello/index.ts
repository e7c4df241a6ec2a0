import { type Func, reply } from 'funcatron';

/** GET /hello/{name}?times=2&loud=true: parameters arrive checked, as the types the document gives them. */
export const greet: Func = (event, context) => {
  const { name } = event.params;
  const { times, loud } = event.query;
  const text = Array.from({ length: times }, () => `${context.config.greeting}, ${name}!`).join(' ');
  return { text: loud ? text.toUpperCase() : text };
};

/** POST /hello/ with a JSON body; `reply` sets the status. */
export const greetAll: Func<{ names: string[] }> = (event, context) => {
  context.log.info('greeting everybody', { count: event.body.names.length });
  return reply(
    201,
    event.body.names.map((name) => ({ text: `${context.config.greeting}, ${name}!` })),
  );
};
