import { StreamEvent } from '../bridge.ts';
import { breakBody, endBody, pushPiece } from './incoming.ts';
import { giveCredit, stopStream } from './outgoing.ts';
import { copyOfWindow, received } from './shared.ts';

/** See `Guest.stream`. */
export function onStream(event: number, number: number, bytes: number, text: string): void {
  switch (event) {
    case StreamEvent.data:
      return pushPiece(number, bytes === 0 ? received() : copyOfWindow(bytes));
    case StreamEvent.end:
      return endBody(number);
    case StreamEvent.break:
      return breakBody(number, text);
    case StreamEvent.credit:
      return giveCredit(number, bytes);
    default:
      return stopStream(number);
  }
}
