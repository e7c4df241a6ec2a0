// `node node.mjs gateway|service AMQP_URL [HTTP_PORT]`: one process of a Moleculer cluster over RabbitMQ.
// Tuned as its documents and our measurements say: noDelay, prefetch 512, no metrics, no logging.
import moleculer from 'moleculer';
import ApiGateway from 'moleculer-web';

const [role, url, port] = process.argv.slice(2);
const broker = new moleculer.ServiceBroker({
  nodeID: `${role}-${process.pid}`,
  logger: false,
  transporter: {
    type: 'AMQP',
    options: {
      url,
      prefetch: 512,
      socketOptions: { noDelay: true },
      eventTimeToLive: 5_000,
      heartbeatTimeToLive: 30_000,
      queueOptions: {},
      exchangeOptions: {},
      messageOptions: {},
      consumeOptions: {},
    },
  },
  requestTimeout: 30_000,
});

if (role === 'service') {
  broker.createService({
    name: 'hello',
    actions: {
      greet: {
        params: { name: 'string' },
        handler: ({ params: { name, ...body } }) => ({ hello: name, body }),
      },
    },
  });
} else {
  broker.createService({
    name: 'api',
    mixins: [ApiGateway],
    settings: {
      port: Number(port),
      ip: '127.0.0.1',
      routes: [{ path: '/', aliases: { 'POST /hello/:name': 'hello.greet' }, bodyParsers: { json: true }, mappingPolicy: 'restrict' }],
    },
  });
}
await broker.start();
if (role === 'gateway') await broker.waitForServices('hello');
process.stdout.write('ready\n');
process.on('SIGTERM', () => void broker.stop().then(() => process.exit(0)));
