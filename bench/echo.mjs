// Sends back what it reads on fd 3: what a round trip through a child costs before anything is done in it.
import { Socket } from 'node:net';

const socket = new Socket({ fd: 3, readable: true, writable: true });
socket.on('data', (chunk) => socket.write(chunk));
socket.on('end', () => process.exit(0));
