import { setFlagsFromString } from 'node:v8';

/**
 * Lets the old generation grow to four times what survived before the whole heap is collected again, the most V8 itself
 * ever chooses. It counts the bytes of buffers that merely pass through: a runner whose heap holds 15 MB was collected
 * whole five times a second, a third of its CPU time (64 connections: +10 % calls/s, p99 14 → 9 ms, +35 MB in the
 * frontend).
 */
export function letHeapGrow(): void {
  setFlagsFromString('--heap-growing-percent=300');
}
