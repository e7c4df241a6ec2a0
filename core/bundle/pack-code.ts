import { existsSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { build, type BuildFailure, type BuildOptions, type Message, type Metafile, type Plugin, stop } from 'esbuild';
import { FuncatronError, type Problem } from '../errors.ts';
import { findDynamicImports } from './pack-scan.ts';
import { createRename, importChain, renamePaths } from './pack-paths.ts';

/** A bundle's code in one file. */
export interface PackedCode {
  /** CommonJS that requires nothing. */
  readonly code: string;
  /** Its source map, version 3; sources are relative to the bundle's folder. */
  readonly map: string;
  /** Names the entry exports. */
  readonly exports: readonly string[];
  readonly warnings: readonly Problem[];
}

/** The expression by which npm packages ask what they run in; there is no `process` in an isolate. */
const NODE_ENV = ['process', 'env', 'NODE_ENV'].join('.');

/** Marks our own warnings among esbuild's. */
const OUTSIDE = 'outside-imports';

/**
 * Makes one CommonJS file of an entry and everything it imports, npm packages included, for an isolate that has web
 * APIs and no Node ones. The result does not depend on where the folder lies.
 * @param folder absolute path of the bundle
 * @param entry relative to it
 * @throws INVALID_BUNDLE with file, line and column of every problem
 */
export async function packCode(folder: string, entry: string): Promise<PackedCode> {
  if (!existsSync(join(folder, entry))) {
    throw refuse(`there is no ${entry}`, [
      {
        message: 'the entry does not exist',
        file: entry,
        hint: 'create it, or name another file in x-funcatron.entry',
      },
    ]);
  }
  const sdk = findSdk();
  const options = buildOptions(folder, entry, sdk);
  // esbuild lists the exports of an ES module only; the second build runs beside the first.
  const [cjs, esm] = await Promise.all([
    build({ ...options, format: 'cjs' }),
    build({ ...options, format: 'esm', sourcemap: false }),
  ]).catch((failure: Error | BuildFailure) => {
    if (!('errors' in failure)) throw failure;
    throw refuse('its code cannot be packed', failure.errors.map(problemOf), failure);
  });
  const outside = outsideProblems(cjs.metafile, cjs.warnings, entry);
  if (outside.length > 0) throw refuse('it imports what an isolate does not have', outside);

  const textOf = (suffix: string): string => cjs.outputFiles.find((file) => file.path.endsWith(suffix))?.text ?? '';
  const { code, map } = renamePaths(
    { code: textOf('bundle.js'), map: textOf('bundle.js.map') },
    createRename(folder, sdk),
  );
  const dynamic = findDynamicImports(code, map);
  if (dynamic.length > 0) throw refuse('it imports modules by names that are known at run time only', dynamic);
  return {
    code,
    map,
    exports: Object.values(esm.metafile.outputs).flatMap((output) => output.exports),
    warnings: cjs.warnings.filter((warning) => warning.pluginName !== OUTSIDE).map(problemOf),
  };
}

/**
 * The sdk, so that `import … from 'funcatron'` works wherever the bundle lies and nothing has to be installed. Its
 * source comes first, seen from core/bundle and from dist/core/bundle: compiled, it would give another digest.
 */
function findSdk(): string {
  const here = import.meta.dirname;
  const places = ['../../sdk/index.ts', '../../../sdk/index.ts', '../../sdk/index.js'].map((file) => join(here, file));
  return places.find((file) => existsSync(file)) ?? 'funcatron';
}

/** Ends the helper process that esbuild keeps between builds; the next build starts another. */
export async function endPacking(): Promise<void> {
  await stop();
}

function buildOptions(folder: string, entry: string, sdk: string) {
  const ownConfig = join(folder, 'tsconfig.json');
  return {
    absWorkingDir: folder,
    entryPoints: [entry],
    outfile: 'bundle.js',
    bundle: true,
    write: false,
    metafile: true,
    sourcemap: 'external',
    platform: 'neutral',
    // What packages offer for browsers and edge runtimes needs no Node.
    mainFields: ['browser', 'module', 'main'],
    conditions: ['worker', 'browser', 'module'],
    target: 'node26',
    charset: 'utf8',
    logLevel: 'silent',
    alias: { funcatron: sdk },
    define: { global: 'globalThis', [NODE_ENV]: '"production"' },
    plugins: [outsideImports],
    // A tsconfig.json somewhere above the folder would make the result depend on where the folder lies.
    ...(existsSync(ownConfig) ? { tsconfig: ownConfig } : { tsconfigRaw: '{}' }),
  } as const satisfies BuildOptions;
}

const builtins = builtinModules.filter((name) => !name.startsWith('_') && !name.startsWith('node:')).join('|');

/**
 * Lets imports of Node modules and URLs stand, so that the build ends and shows who imports them, each with a warning
 * that has its place. A package installed under the name of a Node module (`events`, `buffer`) is taken instead.
 */
const outsideImports: Plugin = {
  name: OUTSIDE,
  setup(build) {
    build.onResolve({ filter: new RegExp(`^(node:|https?:|//|(${builtins})$)`) }, async (args) => {
      if (args.pluginData === OUTSIDE) return undefined;
      const { path, importer, namespace, resolveDir, kind } = args;
      if (!/^(node:|https?:|\/\/)/.test(path)) {
        const found = await build.resolve(path, { importer, namespace, resolveDir, kind, pluginData: OUTSIDE });
        if (found.errors.length === 0) return found;
      }
      return { path, external: true, sideEffects: false, warnings: [{ text: path }] };
    });
  },
};

/** One problem for each import that is left in the output, with the way from the entry to it. */
function outsideProblems(metafile: Metafile, warnings: readonly Message[], entry: string): Problem[] {
  const left = new Set(
    Object.values(metafile.outputs)
      .flatMap((output) => output.imports)
      .filter((imported) => imported.external === true)
      .map((imported) => imported.path),
  );
  return [...left].map((path) => {
    const warning = warnings.find((message) => message.pluginName === OUTSIDE && message.text === path);
    return {
      ...placeOf(warning),
      message: `"${path}" is not there in an isolate; imported by ${importChain(metafile, entry, path).join(' → ')}`,
      hint: /^(https?:|\/\/)/.test(path)
        ? 'install the package from npm and import it by its name'
        : 'use the web API (fetch, crypto, URL, TextEncoder, …), context.services, or a package that needs no Node modules',
    };
  });
}

function problemOf(message: Message): Problem {
  return { ...placeOf(message), ...wordsOf(message) };
}

function placeOf(message: Message | undefined): Pick<Problem, 'file' | 'line' | 'column'> {
  const location = message?.location;
  return location ? { file: location.file, line: location.line, column: location.column + 1 } : {};
}

/** esbuild's words, and ours where ours say what to do. */
function wordsOf(message: Message): Pick<Problem, 'message' | 'hint'> {
  if (message.text.startsWith('Top-level await')) {
    return {
      message: 'a bundle cannot await at its top level',
      hint: 'move it to `export async function init(context)`, which runs once before the first call',
    };
  }
  const missing = /^Could not resolve "([^"]+)"/.exec(message.text)?.[1];
  if (missing !== undefined) {
    const hint = /^[./]/.test(missing)
      ? 'check the path and its extension'
      : `run \`npm install ${missing}\` in the bundle's folder`;
    return { message: `cannot find "${missing}"`, hint };
  }
  const note = message.notes[0]?.text;
  return { message: message.text, hint: note ?? 'mend the code at this place' };
}

function refuse(why: string, problems: readonly Problem[], cause?: unknown): FuncatronError {
  return new FuncatronError('INVALID_BUNDLE', `cannot pack the bundle: ${why}`, { cause, data: { problems } });
}
