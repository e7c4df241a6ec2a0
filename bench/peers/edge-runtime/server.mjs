// `node server.mjs HTTP_PORT`: Vercel's edge-runtime, one fetch handler in a vm context of the server's own process.
import { EdgeRuntime, runServer } from 'edge-runtime';

const runtime = new EdgeRuntime({
  initialCode: `
    addEventListener('fetch', (event) => event.respondWith(greet(event.request)));
    async function greet(request) {
      const name = new URL(request.url).pathname.split('/').at(-1);
      return Response.json({ hello: name, body: await request.json() });
    }`,
});
await runServer({ runtime, port: Number(process.argv[2]), host: '127.0.0.1' });
process.stdout.write('ready\n');
