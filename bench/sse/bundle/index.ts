import { type Func, reply } from 'funcatron';

const HEARTBEAT_MS = 5_000;

async function* heartbeats(): AsyncGenerator<string> {
  for (let beat = 0; ; beat++) {
    yield `data: ${beat}\n\n`;
    await new Promise((resolve) => setTimeout(resolve, HEARTBEAT_MS));
  }
}

export const events: Func = () => reply(200, heartbeats(), { 'content-type': 'text/event-stream' });

export const greet: Func = (event) => ({ hello: event.params.name, body: event.body });
