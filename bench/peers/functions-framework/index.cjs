// `node index.cjs HTTP_PORT`: Google's functions-framework with one HTTP function, as `functions-framework --target=greet` has it.
const { getTestServer } = require('@google-cloud/functions-framework/testing');
const { http } = require('@google-cloud/functions-framework');

http('greet', (req, res) => res.json({ hello: req.path.split('/').at(-1), body: req.body }));
getTestServer('greet').listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('ready\n'));
