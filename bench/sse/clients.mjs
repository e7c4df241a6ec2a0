// Clients of server-sent events that only listen: `node clients.mjs URL COUNT`, started with an IPC channel. It says
// 'ready' when each has had its first event, and answers every message with what has become of them since the last one.
import { connect } from 'node:net';

/** So many connect at a time: more than the listening socket's queue holds would be turned away by the kernel. */
const AT_ONCE = 100;

const [url = '', countText = ''] = process.argv.slice(2);
const { hostname, port, pathname } = new URL(url);
const request = `GET ${pathname} HTTP/1.1\r\nhost: ${hostname}\r\naccept: text/event-stream\r\n\r\n`;
const clients = Array.from({ length: Number(countText) }, () => ({ events: 0, isOpen: true, isFirst: true }));

function listen(client) {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk) => {
      if (client.isFirst && !chunk.toString('latin1').startsWith('HTTP/1.1 200')) {
        reject(new Error(chunk.toString('latin1').slice(0, 1_000)));
      }
      client.isFirst = false;
      if (!chunk.includes('data: ')) return;
      client.events++;
      resolve();
    });
    socket.on('error', reject);
    socket.on('close', () => {
      client.isOpen = false;
      reject(new Error('closed'));
    });
  });
}

process.on('message', () => {
  const open = clients.filter(({ isOpen }) => isOpen).length;
  process.send({ open, served: clients.filter(({ events }) => events > 0).length });
  for (const client of clients) client.events = 0;
});
process.on('disconnect', () => process.exit(0));

for (let from = 0; from < clients.length; from += AT_ONCE)
  await Promise.all(clients.slice(from, from + AT_ONCE).map(listen));
process.send('ready');
