// Express answering from memory: parses the JSON body and answers it.
import express from 'express';

const app = express();
app.use(express.json());
app.post('/hello/:name', (req, res) => void res.json({ hello: req.params.name, body: req.body }));
app.listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('ready\n'));
