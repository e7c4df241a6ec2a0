/** Makes `guest.cache` beside the `guest.js` of the folder it is given: runs the script once, so that what a start needs is compiled. */
const { readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { constants, createContext, Script } = require('node:vm');

const [, , folder = '.'] = process.argv;
const script = new Script(readFileSync(join(folder, 'guest.js'), 'utf8'), { filename: 'guest.js' });
const spec = { bundle: '', revision: '', operations: [], config: {}, services: {}, stackTraces: true };
const guest = script.runInContext(createContext(constants.DONT_CONTEXTIFY));
guest.setup(JSON.stringify(spec), 0);
writeFileSync(join(folder, 'guest.cache'), script.createCachedData());
