import type { Broker, Consumer, Delivery } from '../core/broker/broker.ts';
import { FuncatronError, toFuncatronError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { COMMAND_QUEUE } from '../core/wire/topology.ts';
import {
  parseCommand,
  parseReply,
  type Command,
  type CommandMessage,
  type CommandReply,
  type Outcome,
} from './commands.ts';
import { lostLead } from './fenced-key.ts';
import type { Replies } from './replies.ts';

/** Commands the leader works on at once; more wait in the queue. */
const COMMAND_PREFETCH = 64;

/**
 * Hands a command to whoever leads and waits for the outcome. When the leader is lost meanwhile the broker gives the
 * command to the next one, which joins what was begun: the id is the same.
 * @throws what the leader answers, NO_LEADER when nobody did, BROKER_DOWN
 */
export async function forward(
  options: { readonly replies: Replies; readonly timeoutMs: number },
  id: string,
  command: Command,
): Promise<Outcome> {
  const { replies, timeoutMs } = options;
  const message: CommandMessage = { v: 1, id, deadline: Date.now() + timeoutMs, command };
  const body = Buffer.from(JSON.stringify(message));
  const answer = await replies.request({ exchange: '', routingKey: COMMAND_QUEUE, body }, timeoutMs);
  if (answer !== undefined) return parseReply(answer.body);
  throw new FuncatronError('NO_LEADER', `no tron that leads answered the ${command.type} within ${timeoutMs} ms`, {
    data: {
      retryAfterS: 5,
      hint: 'see whether a tron runs and reaches broker and store; GET /v1/bundles says what is live',
    },
  });
}

/** Takes commands from followers. What this Tron cannot finish, because its lead ended, goes back into the queue. */
export function receiveCommands(options: {
  readonly broker: Broker;
  readonly execute: (id: string, command: Command) => Promise<Outcome>;
  readonly log: Log;
}): Promise<Consumer> {
  const { broker, execute, log } = options;

  async function take(delivery: Delivery): Promise<void> {
    const message = parseCommand(delivery.body);
    const remainingMs = (message?.deadline ?? 0) - Date.now();
    if (message === undefined || remainingMs < 1) {
      log.warn({ bytes: delivery.body.length }, 'a message is no command, or nobody waits for it any more');
      return delivery.ack();
    }
    const reply = await answer(message);
    const isOurs = reply.error?.code !== lostLead().code;
    const { replyTo = '', correlationId = '' } = delivery.properties;
    const outcome = await broker.publish({
      exchange: '',
      routingKey: isOurs ? replyTo : COMMAND_QUEUE,
      body: isOurs ? Buffer.from(JSON.stringify(reply)) : delivery.body,
      properties: isOurs
        ? { correlationId, contentType: 'application/json' }
        : { ...delivery.properties, expirationMs: Math.ceil(remainingMs) },
    });
    // A full reply queue is its owner's affair, who must not keep others' commands waiting for it.
    // Not accepted otherwise: left with the broker, which gives it to the next leader when this process or connection ends.
    if (outcome === 'accepted' || (isOurs && outcome === 'refused')) delivery.ack();
  }

  async function answer({ id, command }: CommandMessage): Promise<CommandReply> {
    try {
      return { outcome: await execute(id, command) };
    } catch (thrown) {
      const { code, message, data } = toFuncatronError(thrown);
      if (code === 'INTERNAL') log.error({ err: thrown, command: command.type }, 'a command failed by a defect');
      return { error: { code, message, data } };
    }
  }

  return broker.consume(COMMAND_QUEUE, { prefetch: COMMAND_PREFETCH }, (delivery) => {
    take(delivery).catch((error: unknown) => log.error({ err: error }, 'a command was not answered'));
  });
}
