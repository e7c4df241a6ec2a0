import { LRUCache } from 'lru-cache';
import { createValidators, type CompiledOperation, type Validators } from '../core/openapi/compile.ts';
import type { Operation, Revision } from './revision.ts';

/** Documents whose validators are kept: compiled code is large, and most bundles are quiet most of the time. */
const MAX_DOCUMENTS = 256;

/** Validators by revision, compiled operation by operation as calls come; those of the longest unused revision go first. */
export class ValidatorCache {
  readonly #validators = new LRUCache<Revision, Validators>({ max: MAX_DOCUMENTS });

  of(operation: Operation): CompiledOperation {
    let validators = this.#validators.get(operation.revision);
    if (validators === undefined) {
      validators = createValidators(operation.revision.record.api);
      this.#validators.set(operation.revision, validators);
    }
    return validators.operation(operation.index);
  }
}
