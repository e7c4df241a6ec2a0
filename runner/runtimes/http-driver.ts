import type { HttpProgram } from './http-program.ts';
import type { Driver, ProgramCall, ProgramFailure, ProgramReply } from './program-call.ts';

/**
 * One HTTP program after the other. One that had to be killed for what it did with a call is replaced here, so that the
 * calls behind it wait for the next; one that ends by itself ends the worker, whose owner knows how to wait longer each time.
 */
export class HttpDriver implements Driver {
  readonly ended: Driver['ended'];
  readonly #start: () => HttpProgram;
  #program: HttpProgram;
  #end: (exit: Awaited<Driver['ended']>) => void = () => undefined;
  #isClosing = false;

  constructor(first: HttpProgram, start: () => HttpProgram) {
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#start = start;
    this.#program = first;
    void this.#watch();
  }

  get pid(): number {
    return this.#program.pid;
  }

  get backlogBytes(): number {
    return this.#program.backlogBytes;
  }

  run(call: ProgramCall): Promise<ProgramReply | ProgramFailure> {
    return this.#program.run(call);
  }

  abandon(call: ProgramCall, why: 'cancelled' | 'overdue'): void {
    this.#program.abandon(call, why);
  }

  close(ms: number): Promise<void> {
    this.#isClosing = true;
    return this.#program.close(ms);
  }

  kill(detail: string): void {
    this.#isClosing = true;
    this.#program.kill(detail);
  }

  async #watch(): Promise<void> {
    for (;;) {
      const program = this.#program;
      const exit = await program.ended;
      if (this.#isClosing || !program.isSpoiled) return this.#end(exit);
      try {
        this.#program = this.#start();
      } catch (thrown) {
        return this.#end({ reason: 'crashed', detail: `it cannot be started again: ${String(thrown)}` });
      }
      this.#program.takeOver(program);
    }
  }
}
