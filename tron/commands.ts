import { FuncatronError, isErrorCode, type ErrorData } from '../core/errors.ts';
import type { FrontendReport, RunnerReport } from '../core/wire/control.ts';
import { isWeights, isWorkers } from '../core/wire/read-control.ts';
import type { Weights } from './bundle-entry.ts';

/** What only the leading Tron can do. Any Tron takes the request; followers hand it on. */
export type Command =
  | { readonly type: 'deploy'; readonly bundle: string; readonly digest: string; readonly goLive: boolean }
  | { readonly type: 'alias'; readonly bundle: string; readonly weights: Weights }
  | { readonly type: 'rollback'; readonly bundle: string }
  | { readonly type: 'remove'; readonly bundle: string; readonly purge: boolean }
  | {
      readonly type: 'scale';
      readonly bundle: string;
      readonly workers: { readonly min: number; readonly max: number };
    }
  | { readonly type: 'members' };

/** What a command leads to. */
export interface Outcome {
  /** What is live now. */
  readonly live?: Weights;
  /** Revisions that still drain. */
  readonly draining?: readonly string[];
  readonly members?: Members;
}

export interface Members {
  readonly runners: readonly (RunnerReport & { readonly silentMs: number })[];
  readonly frontends: readonly (FrontendReport & { readonly silentMs: number })[];
}

/** A command on its way to the leader. */
export interface CommandMessage {
  readonly v: 1;
  /** The same on every attempt: a command that comes twice is carried out once. */
  readonly id: string;
  /** Unix ms after which nobody waits for it. */
  readonly deadline: number;
  readonly command: Command;
}

/** The answer to it: `outcome` or `error`. */
export interface CommandReply {
  readonly outcome?: Outcome;
  readonly error?: { readonly code: string; readonly message: string; readonly data?: ErrorData };
}

/** The command in a message, or `undefined` when it is none of this version: what it says goes into the registry. */
export function parseCommand(body: Buffer): CommandMessage | undefined {
  try {
    const value = JSON.parse(body.toString()) as Partial<CommandMessage> | null;
    const isMessage = value?.v === 1 && typeof value.id === 'string' && typeof value.deadline === 'number';
    return isMessage && isCommand(value.command) ? (value as CommandMessage) : undefined;
  } catch {
    return undefined; // Not JSON: no command.
  }
}

function isCommand(value: Partial<Record<string, unknown>> | null | undefined): boolean {
  if (value?.['type'] === 'members') return true;
  if (typeof value?.['bundle'] !== 'string') return false;
  switch (value['type']) {
    case 'deploy':
      return typeof value['digest'] === 'string' && typeof value['goLive'] === 'boolean';
    case 'alias':
      return isWeights(value['weights']) && Object.keys(value['weights'] ?? {}).length > 0;
    case 'rollback':
      return true;
    case 'remove':
      return typeof value['purge'] === 'boolean';
    case 'scale':
      return isWorkers(value['workers']);
    default:
      return false;
  }
}

/** @throws what the leader answered */
export function parseReply(body: Buffer): Outcome {
  const { outcome, error } = JSON.parse(body.toString()) as CommandReply;
  if (error === undefined) return outcome ?? {};
  const code = isErrorCode(error.code) ? error.code : 'INTERNAL';
  throw new FuncatronError(code, error.message, { data: error.data ?? {} });
}
