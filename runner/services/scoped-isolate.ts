import type { IsolateKind, Worker, WorkerEvents, WorkerSpec } from '../isolate/isolate.ts';
import type { GuestServices } from './guest-services.ts';
import { Scopes } from './scopes.ts';

/**
 * The kind, with workers whose calls take of the services and give back: it sees calls being cancelled, answered, and
 * lost with their worker, and rolls back what they had not committed.
 */
export function withScopes(kind: IsolateKind, services: GuestServices): IsolateKind {
  return { name: kind.name, start: (spec, events) => startScoped(kind, services, spec, events) };
}

async function startScoped(
  kind: IsolateKind,
  services: GuestServices,
  spec: WorkerSpec,
  events: WorkerEvents,
): Promise<Worker> {
  const scopes = new Scopes();
  try {
    const worker = await kind.start(spec, {
      ...events,
      onOperation: (request, signal) => services.run(request, signal, scopes),
      onReplies(tag, envelope) {
        scopes.answered(envelope);
        events.onReplies(tag, envelope);
      },
      onExit(exit) {
        scopes.close();
        events.onExit(exit);
      },
    });
    return new ScopedWorker(worker, scopes);
  } catch (error) {
    scopes.close();
    throw error;
  }
}

class ScopedWorker implements Worker {
  readonly id: string;
  readonly pid: number;
  readonly #worker: Worker;
  readonly #scopes: Scopes;

  constructor(worker: Worker, scopes: Scopes) {
    this.id = worker.id;
    this.pid = worker.pid;
    this.#worker = worker;
    this.#scopes = scopes;
  }

  get backlogBytes(): number {
    return this.#worker.backlogBytes;
  }
  send(tag: number, envelope: Buffer, clockOffsetMs: number): void {
    this.#worker.send(tag, envelope, clockOffsetMs);
  }
  stream(kind: number, callId: Buffer, data?: Buffer): void {
    this.#worker.stream(kind, callId, data);
  }
  cancel(ids: Buffer): void {
    this.#scopes.cancelled(ids);
    this.#worker.cancel(ids);
  }
  ping(): Promise<void> {
    return this.#worker.ping();
  }
  close(): Promise<void> {
    return this.#worker.close();
  }
  kill(): void {
    this.#worker.kill();
  }
}
