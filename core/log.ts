import { pino, type Logger } from 'pino';
import { FuncatronError } from './errors.ts';

/** The log of one part; `child({part})` narrows it. Lines are NDJSON on stderr or stdout, never secrets. */
export type Log = Logger;

/** Levels a line can have, in the words of `context.log` and of `funcatron.log`'s routing keys. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * A pino log writing NDJSON to a file descriptor (2 by default: data is on stdout, the rest on stderr).
 * Values under `token`, `secrets`, `authorization` and `password` are removed wherever they stand one level deep.
 */
export function createLog(options: { level: LogLevel | 'silent'; role: string; fd?: number }): Log {
  return pino(
    {
      level: options.level,
      base: { role: options.role, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
      redact: {
        paths: [
          'token',
          'password',
          'secrets',
          'authorization',
          '*.token',
          '*.password',
          '*.secrets',
          '*.authorization',
        ],
        remove: true,
      },
    },
    pino.destination({ fd: options.fd ?? 2, sync: true }),
  );
}

/** A broker or a store that is away is expected, and where it was noticed says nothing: its words are enough. */
function describeError(error: unknown): unknown {
  if (error instanceof FuncatronError && (error.code === 'STORE_DOWN' || error.code === 'BROKER_DOWN')) {
    return { code: error.code, message: error.message };
  }
  return pino.stdSerializers.err(error as Error);
}
