import { newId } from '../id.ts';
import { within } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import type { BindingSpec, Topology } from '../wire/topology.ts';
import { brokerDown, channelError, ReplyCode, replyCodeOf, SetupChannels } from './amqp-channels.ts';
import { SupervisedConnection, type Channel, type Connection } from './amqp-connection.ts';
import { QueueConsumer, type ConsumerHost } from './amqp-consumer.ts';
import { AmqpDelivery } from './amqp-delivery.ts';
import { Publisher } from './amqp-publisher.ts';
import { RestartMarker } from './amqp-restart.ts';
import { BrokerStatus } from './amqp-status.ts';
import { declareOn, describeTopology, TopologyMemory } from './amqp-topology.ts';
import type {
  Broker,
  BrokerChange,
  BrokerState,
  Consumer,
  ConsumeOptions,
  Delivery,
  OutgoingMessage,
  PublishOutcome,
  QueueCounts,
} from './broker.ts';

/** How to reach RabbitMQ. */
export interface AmqpOptions {
  /** `amqp(s)://user:password@host:port/vhost`, one for each node of a cluster. A `heartbeat` in the query wins over `heartbeatS`. */
  readonly urls: readonly string[];
  /** What RabbitMQ shows as the connections' name, followed by what each is for. */
  readonly connectionName: string;
  readonly log: Log;
  /** Seconds of silence after which a beat is sent; after two to three of them a silent broker counts as gone. */
  readonly heartbeatS?: number;
}

const DRAIN_MS = 5_000;
const CLOSE_STEP_MS = 2_000;

/**
 * A broker on RabbitMQ; it begins to connect at once and goes on trying until `close`.
 *
 * Two connections: RabbitMQ stops reading from connections that publish when it runs short of memory, and acks must go
 * on being heard then. They fail and recover separately, so that losing one does not redeliver what hangs on the other.
 */
export function openAmqpBroker(options: AmqpOptions): Broker {
  const broker = new AmqpBroker(options);
  broker.start();
  return broker;
}

class AmqpBroker implements Broker {
  readonly kind = 'amqp';
  readonly #log: Log;
  /** Declares and consumes. */
  readonly #consuming: SupervisedConnection;
  readonly #publishing: SupervisedConnection;
  readonly #publisher: Publisher;
  readonly #channels = new SetupChannels();
  readonly #topology = new TopologyMemory();
  readonly #marker = new RestartMarker(newId());
  readonly #consumers = new Set<QueueConsumer>();
  readonly #host: ConsumerHost;
  readonly #status = new BrokerStatus();
  #restarted = false;
  #isBlocked = false;
  #lastFailure = '';
  #closing: Promise<void> | undefined;

  constructor({ urls, connectionName, log, heartbeatS = 10 }: AmqpOptions) {
    this.#log = log;
    const shared = {
      urls,
      heartbeatS,
      onDown: (reason: Error) => this.#lost(reason),
      onFailure: (address: string, reason: Error) => this.#failed(address, reason),
    };
    this.#consuming = new SupervisedConnection({
      ...shared,
      name: `${connectionName} consume`,
      setup: (connection) => this.#setUp(connection),
      onUp: () => this.#consumingUp(),
      onBlocked: () => {}, // it never publishes, so it is never blocked
    });
    this.#publishing = new SupervisedConnection({
      ...shared,
      name: `${connectionName} publish`,
      setup: (connection) => {
        this.#isBlocked = false;
        return this.#publisher.open(connection);
      },
      onUp: () => this.#announce(),
      onBlocked: (isBlocked) => this.#blocked(isBlocked),
    });
    this.#publisher = new Publisher(this.#publishing, log);
    this.#host = {
      connection: this.#consuming,
      log,
      redeclare: (connection, queue) => this.#redeclare(connection, queue),
      ended: (consumer) => this.#consumers.delete(consumer),
    };
  }

  get state(): BrokerState {
    return this.#status.state;
  }

  get server(): string | undefined {
    const properties = this.#consuming.current?.connection.serverProperties;
    return properties && `${properties.product} ${properties.version}`;
  }

  start(): void {
    this.#consuming.start();
    this.#marker.keep(() => this.#use('keep the restart marker', (channel) => this.#marker.check(channel)));
  }

  onState(listener: (change: BrokerChange) => void): () => void {
    return this.#status.onState(listener);
  }

  ready(signal?: AbortSignal): Promise<boolean> {
    return this.#status.ready(signal);
  }

  async declare(topology: Topology): Promise<void> {
    const what = `declare ${describeTopology(topology)}`;
    try {
      await this.#use(what, (channel) => declareOn(channel, topology));
      this.#topology.add(topology);
    } catch (error) {
      // What the broker refused is not worth remembering, and must not replace what it took before.
      if (replyCodeOf(error) === undefined) this.#topology.add(topology);
      throw channelError(what, error);
    }
  }

  forget(queues: readonly string[]): void {
    this.#topology.forget(queues);
  }

  publish(message: OutgoingMessage): Promise<PublishOutcome> {
    return this.#closing === undefined ? this.#publisher.publish(message) : Promise.resolve('down');
  }

  async consume(queue: string, options: ConsumeOptions, onDelivery: (delivery: Delivery) => void): Promise<Consumer> {
    const connection = await this.#consuming.available();
    if (connection === undefined) throw brokerDown(`consume ${queue}`);
    const consumer = new QueueConsumer(this.#host, queue, options, onDelivery);
    await consumer.start(connection);
    if (!consumer.hasEnded) this.#consumers.add(consumer);
    return consumer;
  }

  async probe(queue: string): Promise<QueueCounts | undefined> {
    const counts = await this.#useFor(queue, 'probe', (channel) => channel.checkQueue(queue));
    return counts && { messages: counts.messageCount, consumers: counts.consumerCount };
  }

  async take(queue: string): Promise<Delivery | undefined> {
    const message = await this.#useFor(queue, 'take from', (channel) => channel.get(queue, { noAck: true }));
    return message === undefined || message === false ? undefined : new AmqpDelivery(message, undefined, true);
  }

  async unbind(binding: BindingSpec): Promise<void> {
    const { queue, exchange, key } = binding;
    const what = `unbind ${queue} from ${exchange}`;
    this.#topology.forgetBinding(binding);
    try {
      await this.#use(what, (channel) => channel.unbindQueue(queue, exchange, key));
    } catch (error) {
      throw channelError(what, error);
    }
  }

  async deleteQueue(queue: string): Promise<number> {
    this.forget([queue]);
    const deleted = await this.#useFor(queue, 'delete', (channel) => channel.deleteQueue(queue));
    return deleted?.messageCount ?? 0;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#marker.stop();
    await this.#closeStep(() => Promise.all([...this.#consumers].map((consumer) => consumer.cancel())), CLOSE_STEP_MS);
    await this.#closeStep(() => this.#publisher.drained(), DRAIN_MS);
    await this.#closeStep(() => this.deleteQueue(this.#marker.queue), CLOSE_STEP_MS);
    this.#status.change({ state: 'closed' });
    await Promise.all([this.#consuming.close(), this.#publishing.close()]);
  }

  async #closeStep(step: () => Promise<unknown>, boundMs: number): Promise<void> {
    try {
      await within(step(), boundMs, `took longer than ${boundMs} ms`);
    } catch (error) {
      this.#log.debug({ reason: String(error) }, 'broker did not close in good order');
    }
  }

  async #use<T>(what: string, work: (channel: Channel) => Promise<T>): Promise<T> {
    return await this.#channels.use(await this.#consuming.available(), what, work);
  }

  /** `undefined` when the queue does not exist. */
  async #useFor<T>(queue: string, verb: string, work: (channel: Channel) => Promise<T>): Promise<T | undefined> {
    const what = `${verb} ${queue}`;
    try {
      return await this.#use(what, work);
    } catch (error) {
      if (replyCodeOf(error) === ReplyCode.notFound) return undefined;
      throw channelError(what, error);
    }
  }

  async #redeclare(connection: Connection, queue: string): Promise<boolean> {
    const topology = this.#topology.of(queue);
    if (topology === undefined) return false;
    await this.#channels.use(connection, `declare ${queue}`, (channel) => declareOn(channel, topology));
    return true;
  }

  /** A new consuming connection: everything declared and consumed before is again. */
  async #setUp(connection: Connection): Promise<void> {
    const restarted = await this.#channels.use(connection, 'look for the restart marker', (channel) =>
      this.#marker.check(channel),
    );
    this.#restarted ||= restarted;
    for (const step of this.#topology.steps()) {
      try {
        await this.#channels.use(connection, describeTopology(step), (channel) => declareOn(channel, step));
      } catch (error) {
        if (replyCodeOf(error) === undefined) throw error;
        // One refused declaration must not keep everybody else from working; who needs it finds its queue missing.
        this.#log.error({ what: describeTopology(step), reason: String(error) }, 'the broker refused a declaration');
      }
    }
    await Promise.all([...this.#consumers].map((consumer) => consumer.restart(connection)));
  }

  #consumingUp(): void {
    // Not earlier: publishing to an exchange that is not declared yet costs the channel, and what waits on it.
    this.#publishing.start();
    this.#announce();
  }

  #announce(): void {
    if (this.#closing !== undefined) return;
    if (this.#consuming.current === undefined || this.#publishing.current === undefined) return;
    this.#lastFailure = '';
    void this.#marker.set((message) => this.publish(message)); // never rejects; a lost marker reads as a restart
    const wasDown = this.#status.state === 'down';
    const restarted = this.#restarted;
    this.#restarted = false;
    this.#log.info(wasDown ? { restarted } : {}, 'broker ready');
    const state = this.#isBlocked ? 'blocked' : 'ready';
    this.#status.change(wasDown ? { state, restarted } : { state });
  }

  #lost(reason: Error): void {
    if (this.#status.isUp) this.#log.warn({ reason: reason.message }, 'broker lost');
    this.#status.change({ state: 'down' });
  }

  #failed(address: string, reason: Error): void {
    const failure = `${address}: ${reason.message}`;
    if (failure === this.#lastFailure) return;
    this.#lastFailure = failure;
    this.#log.warn({ address, reason: reason.message }, 'broker cannot be reached, trying again');
  }

  #blocked(isBlocked: boolean): void {
    this.#isBlocked = isBlocked;
    if (!this.#status.isUp) return;
    this.#log.warn(isBlocked ? 'broker blocks publishers' : 'broker takes messages again');
    this.#status.change({ state: isBlocked ? 'blocked' : 'ready' });
  }
}
