/** Makes `guest.cache` beside the `guest.js` of the folder it is given: runs a bundle and a call of it first, so that what these need is compiled. */
const { readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { constants, createContext, Script } = require('node:vm');

const [, , folder = '.'] = process.argv;
const script = new Script(readFileSync(join(folder, 'guest.js'), 'utf8'), { filename: 'guest.js' });
const spec = {
  bundle: '',
  revision: '',
  operations: [{ operationId: 'run', handler: 'run' }],
  config: {},
  services: {},
  stackTraces: true,
};
const guest = script.runInContext(createContext(constants.DONT_CONTEXTIFY));
guest.setup(JSON.stringify(spec), 0);
guest.evaluate((module) => {
  module.exports.run = (event, context) => ({ body: event.body, method: event.method, id: context.callId });
});
guest.init();
setImmediate(() => {
  take();
  const meta = JSON.stringify({
    method: 'POST',
    path: '/',
    params: { a: '1' },
    headers: { 'content-type': 'application/json' },
  });
  guest.enter(0, 0, 0, 1, 0, 0, 0, 0, Number.MAX_SAFE_INTEGER, meta, '{"a":1}');
  setImmediate(() => {
    take();
    writeFileSync(join(folder, 'guest.cache'), script.createCachedData());
  });
});

function take() {
  while (guest.take() !== undefined);
}
