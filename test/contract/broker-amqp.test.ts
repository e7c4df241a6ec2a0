import { openAmqpBroker } from '../../core/broker/amqp.ts';
import type { Broker } from '../../core/broker/broker.ts';
import { createLog } from '../../core/log.ts';
import { usePrivateRabbit } from '../helpers/servers/rabbitmq.ts';
import { describeBroker } from './broker-contract.ts';

describe('core/broker/amqp on RabbitMQ', () => {
  const rabbit = usePrivateRabbit();

  async function open(): Promise<Broker> {
    const log = createLog({ level: 'silent', role: 'test' });
    const broker = openAmqpBroker({ urls: [rabbit.server().url()], connectionName: 'contract', log });
    if (!(await broker.ready(AbortSignal.timeout(10_000)))) throw new Error('RabbitMQ does not answer');
    return broker;
  }

  describeBroker('keeps the contract', async () => {
    const broker = await open();
    return {
      broker,
      another: open,
      cleanup: () => broker.close(),
      async restart() {
        await rabbit.server().stop();
        await rabbit.server().start();
        return broker;
      },
    };
  });
});
