// What a proxy has behind it: hashes the bodies it is sent, or sends them back, as the funcs in js/ and node/ do:
// `node server.mjs PORT`.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { Checksum } from './js/checksum.ts';

const HASHERS = { '/js/hash': hashInCode, '/node/hash': hashNatively };

createServer((req, res) => {
  if (req.url.endsWith('/pass')) {
    res.writeHead(200, { 'content-type': 'application/octet-stream' });
    req.pipe(res);
  } else HASHERS[req.url](req, (result) => res.end(JSON.stringify(result)));
}).listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('ready\n'));

function hashInCode(req, done) {
  const checksum = new Checksum();
  req.on('data', (piece) => checksum.add(piece));
  req.on('end', () => done({ bytes: checksum.bytes, hash: checksum.value }));
}

function hashNatively(req, done) {
  const sha = createHash('sha256');
  let bytes = 0;
  req.on('data', (piece) => {
    bytes += piece.length;
    sha.update(piece);
  });
  req.on('end', () => done({ bytes, hash: sha.digest('hex') }));
}
