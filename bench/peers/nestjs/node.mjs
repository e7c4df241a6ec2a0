// `node node.mjs gateway|service AMQP_URL [HTTP_PORT]`: a NestJS HTTP gateway, or the RMQ microservice behind it.
// Tuned: no acks, prefetch 512, transient messages, no logging, no validation. Decorators are applied by hand.
import 'reflect-metadata';
import { Body, Controller, HttpCode, Inject, Module, Param, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientsModule, MessagePattern, Payload, Transport } from '@nestjs/microservices';

const [role, url, port] = process.argv.slice(2);
const rmq = {
  transport: Transport.RMQ,
  options: {
    urls: [url],
    queue: 'bench.nestjs',
    noAck: true,
    prefetchCount: 512,
    queueOptions: { durable: false },
    socketOptions: { noDelay: true },
  },
};

class HelloService {
  greet({ name, ...body }) {
    return { hello: name, body };
  }
}
decorate(HelloService, [MessagePattern('greet')], [Payload()]);

class HelloGateway {
  constructor(client) {
    this.client = client;
  }
  greet(name, body) {
    return this.client.send('greet', { name, ...body });
  }
}
decorate(HelloGateway, [Post('hello/:name'), HttpCode(200)], [Param('name'), Body()]);
Inject('HELLO')(HelloGateway, undefined, 0);

/** What TypeScript would emit for a controller with one method. */
function decorate(target, methodDecorators, parameterDecorators) {
  const descriptor = Object.getOwnPropertyDescriptor(target.prototype, 'greet');
  parameterDecorators.forEach((decorator, index) => decorator(target.prototype, 'greet', index));
  for (const decorator of methodDecorators) decorator(target.prototype, 'greet', descriptor);
  Controller()(target);
}

class App {}
const isGateway = role === 'gateway';
Module({
  imports: isGateway ? [ClientsModule.register([{ name: 'HELLO', ...rmq }])] : [],
  controllers: [isGateway ? HelloGateway : HelloService],
})(App);

if (isGateway) {
  const app = await NestFactory.create(App, { logger: false });
  await app.listen(Number(port), '127.0.0.1');
} else {
  const app = await NestFactory.createMicroservice(App, { ...rmq, logger: false });
  await app.listen();
}
process.stdout.write('ready\n');
