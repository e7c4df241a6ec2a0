import { Socket } from 'node:net';
import { Channel, type ChannelEvents } from '../channel.ts';

/** What one read may take: more than a socket between two processes holds, 208 KiB by default. Source: socket(7), wmem_default */
const READ_BYTES = 256 * 1024;

/**
 * The channel on fd 3, to the runner. All is read into the same memory: the 64 KiB of new memory that Node takes for each
 * read are for the collector, and for no cache.
 */
export function openChannel(maxFrameBytes: number, events: ChannelEvents): Channel {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  function callback(bytes: number): true {
    channel.receive(buffer.subarray(0, bytes));
    return true;
  }
  const socket = new Socket({ fd: 3, readable: true, writable: true, onread: { buffer, callback } });
  const channel = new Channel(socket, maxFrameBytes, events, 'lent');
  return channel;
}
