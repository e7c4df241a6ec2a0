// Answers every message of a queue with its own body, with amqplib alone: the other end of a raw request and reply, with
// publisher confirms where it says so: `node responder.mjs URL QUEUE [confirm]`.
import { connect } from 'amqplib';

const [url, queue, confirm] = process.argv.slice(2);
const connection = await connect(url, { noDelay: true });
const channel = await (confirm === 'confirm' ? connection.createConfirmChannel() : connection.createChannel());
await channel.assertQueue(queue, { durable: true, arguments: { 'x-expires': 60_000 } });
await channel.consume(
  queue,
  ({ content, properties: { replyTo, correlationId } }) => channel.sendToQueue(replyTo, content, { correlationId }),
  { noAck: true },
);
process.stdout.write('ready\n');
