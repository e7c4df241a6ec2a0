// The least that adopts a bundle: reads its length and text from fd 3, compiles and runs it in a context of its own, calls
// its func, and says that it did.
const { Socket } = require('node:net');
const { compileFunction, createContext } = require('node:vm');

const channel = new Socket({ fd: 3, readable: true, writable: true });
let text = Buffer.alloc(0);
channel.write('up');
channel.on('end', () => process.exit());
channel.on('data', (chunk) => {
  text = Buffer.concat([text, chunk]);
  if (text.length < 4 || text.length < 4 + text.readUInt32BE(0)) return;
  const module = { exports: {} };
  const options = { parsingContext: createContext({}), filename: 'bundle.js' };
  compileFunction(text.toString('utf8', 4), ['module', 'exports'], options)(module, module.exports);
  channel.write(JSON.stringify(module.exports.run({ params: {} })));
});
