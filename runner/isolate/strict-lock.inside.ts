import { createRequire, syncBuiltinESMExports } from 'node:module';
import v8 from 'node:v8';
import type ivm from 'isolated-vm';

/**
 * Loads isolated-vm, the one addon there is, and then gives up the permission to load addons: before anything of a
 * guest's is there. Flags of V8 could switch its own guards off, so the way to set them goes too.
 */
const [, , addonFile = ''] = process.argv;
export const { ivm: isolatedVm } = createRequire(__filename)(addonFile) as { ivm: typeof ivm };

const { permission } = process as unknown as { permission: { drop(scope: string): void } };
permission.drop('addon');
Reflect.deleteProperty(v8, 'setFlagsFromString');
syncBuiltinESMExports();
