/**
 * Programs of one runtime in a process of their own, to be run as another user, or to be killed: a worker of `victim`, and
 * one of `attacker`, which is called with `words`. Writes what that answered.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createKinds } from '../../runner/isolate/kinds.ts';
import { PLACES } from '../../runner/runtimes/homes.ts';
import { silentLog, specOf, WorkerHarness } from '../contract/isolate-harness.ts';

export interface ProgramsRunnerOptions {
  readonly runtime: 'http' | 'default' | 'python' | 'node';
  /** Folders of bundles. */
  readonly victim: string;
  readonly attacker: string;
  /** Of the attacker; `WORDS` in it stands for the words. */
  readonly entry: string;
  readonly hidden: readonly string[];
  /** `OTHER` stands for a file of the victim, where it lies for its program. */
  readonly words: readonly string[];
}

const { runtime, victim, attacker, entry, hidden, words } = JSON.parse(process.argv[2] ?? '') as ProgramsRunnerOptions;
const kinds = createKinds({ log: silentLog, runtimes: [runtime], allowWeakIsolation: false, hidden });
const kind = kinds.of({ runtime, isolation: 'process' });
const permissions = { net: false, fs: { read: [], write: [] }, child: true };

async function start(folder: string, line: string): Promise<WorkerHarness> {
  const harness = new WorkerHarness();
  harness.worker = await kind.start(specOf('', { folder, entry: line, concurrency: 1, permissions }), harness.events);
  return harness;
}

await start(victim, entry);
const other = homes().find((file) => file.endsWith('/data.txt')) ?? join(victim, 'data.txt');
const given = words.map((word) => (word === 'OTHER' ? other : word));
const called = await start(attacker, entry.replace('WORDS', given.join(' ')));
const reply = await called.call({ body: JSON.stringify(given) });
process.stdout.write(`${JSON.stringify({ found: reply.body.toString(), homes: homes() })}\n`);
process.stdin.resume().on('end', () => {
  called.worker.kill();
  void called.exited.then(() => kinds.close()).then(() => process.exit(0));
});

/** All that lies in the homes of this process's programs. */
function homes(): string[] {
  const [base] = PLACES.flatMap((place) =>
    readdirSync(place)
      .filter((name) => name.startsWith(`funcatron-programs-${process.pid}-`))
      .map((name) => join(place, name)),
  );
  if (base === undefined) return [];
  return readdirSync(base, { recursive: true }).map((name) => join(base, String(name)));
}
