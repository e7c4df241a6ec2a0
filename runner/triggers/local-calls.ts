import type { PublishOutcome } from '../../core/broker/broker.ts';
import { FuncatronError } from '../../core/errors.ts';
import { encodeCalls, Envelope, type CallRecord } from '../../core/wire/envelope.ts';
import type { Address } from '../call.ts';
import type { Dispatch } from '../dispatch.ts';
import type { Replies } from '../replies.ts';
import { openAnswer, type Answer } from './answer.ts';

interface LocalAddress {
  readonly address: Address;
  readonly waiting: Map<number, (answer: Answer) => void>;
}

/**
 * Calls that start and end in this process. Their ids may have been chosen by somebody outside, so two at once may
 * have the same last 32 bits: each address holds a tail once, and there are as many addresses as that takes.
 */
export class LocalCalls {
  readonly #replies: Replies;
  readonly #addresses: LocalAddress[] = [];

  constructor(replies: Replies) {
    this.#replies = replies;
  }

  /** Settles with how the call ended; never rejects. */
  run(dispatch: Dispatch, record: CallRecord): Promise<Answer> {
    const envelope = new Envelope(encodeCalls([record]));
    const tail = envelope.idTail(0);
    const { address, waiting } = this.#addressWithout(tail);
    return new Promise((resolve) => {
      waiting.set(tail, resolve);
      dispatch.take(envelope, address);
    });
  }

  /**
   * Like `run`, past the queue, for a call that a func of the same revision waits for. Aborted, the call is cancelled, and
   * ends as TIMEOUT.
   */
  runNested(dispatch: Dispatch, record: CallRecord, signal: AbortSignal): Promise<Answer> {
    const envelope = new Envelope(encodeCalls([record]));
    const tail = envelope.idTail(0);
    const { address, waiting } = this.#addressWithout(tail);
    return new Promise((resolve) => {
      const onAbort = (): void => {
        waiting.delete(tail);
        const call = address.calls.get(tail);
        if (call?.state === 'waiting') call.settle();
        else call?.cancel();
        resolve({ error: new FuncatronError('TIMEOUT', 'nobody waits for the call any more') });
      };
      waiting.set(tail, (answer) => {
        signal.removeEventListener('abort', onAbort);
        resolve(answer);
      });
      dispatch.takeNested(envelope, address);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #addressWithout(tail: number): LocalAddress {
    for (const known of this.#addresses) {
      if (!known.waiting.has(tail) && !known.address.calls.has(tail)) return known;
    }
    const waiting: LocalAddress['waiting'] = new Map();
    const address = this.#replies.add((answers) => Promise.resolve(settle(waiting, answers)));
    const added = { address, waiting };
    this.#addresses.push(added);
    return added;
  }
}

function settle(waiting: LocalAddress['waiting'], answers: Envelope): PublishOutcome {
  for (let index = 0; index < answers.count; index++) {
    const tail = answers.idTail(index);
    waiting.get(tail)?.(openAnswer(answers, index));
    waiting.delete(tail);
  }
  return 'accepted';
}
