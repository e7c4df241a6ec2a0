// A reverse proxy of node:http and nothing else: `node proxy.mjs PORT SERVER_PORT`.
import { Agent, createServer, request } from 'node:http';

const [port, serverPort] = process.argv.slice(2).map(Number);
const agent = new Agent({ keepAlive: true });

createServer((req, res) => {
  const { method, url: path, headers } = req;
  const upstream = request({ host: '127.0.0.1', port: serverPort, method, path, headers, agent }, (answer) => {
    res.writeHead(answer.statusCode, answer.headers);
    answer.pipe(res);
  });
  upstream.on('error', () => res.destroy());
  req.pipe(upstream);
}).listen(port, '127.0.0.1', () => process.stdout.write('ready\n'));
