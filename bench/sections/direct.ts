import { type DirectRow, measureDirect } from '../measures/direct.ts';
import { digits, type Section } from '../page.ts';

const WORDS = { hash: '1 GiB up, hashed', pass: '1 GiB up, passed through, and 1 GiB down' };

export const direct: Section = async ({ say, table, must }, isQuick) => {
  const { rows, proxiedGrownMib, directGrownMib } = await measureDirect(
    isQuick ? { bytes: 2 ** 28, rounds: 1 } : { bytes: 2 ** 30, rounds: 3 },
  );
  say();
  say('## The direct path');
  say();
  say(
    'One body through one frontend, runner and worker, and through a proxy of bare `node:http` before a server that does the same with it, in turns. The hash is SHA-256 of `node:crypto` in runtime `node` and Adler-32 in plain code in `js`, and the same at the server. The client is a plain socket that sends one buffer over and over.',
  );
  if (isQuick) say('Bodies of 256 MiB instead of 1 GiB.');
  table(
    ['runtime', '', 'proxy MiB/s', 'direct MiB/s', 'ratio'],
    rows.map((row) => [row.runtime, WORDS[row.work], row.proxied.mibPerS, row.direct.mibPerS, ratioOf(row)]),
  );
  say('CPU seconds per GiB sent:');
  table(
    ['runtime', '', 'through the proxy', 'direct'],
    rows.map(({ runtime, work, proxied, direct: own }) => [
      runtime,
      work,
      figuresOf(proxied.cpuSPerGib),
      figuresOf(own.cpuSPerGib),
    ]),
  );
  say(
    `Resident memory grew to its peak in all of this by MiB: ${figuresOf(proxiedGrownMib)}; ${figuresOf(directGrownMib)}.`,
  );
  for (const row of rows) {
    const ratio = ratioOf(row);
    must({
      load: `direct, ${row.runtime}, ${row.work}`,
      must: '≥ 0.6× a bare proxy',
      found: `${ratio.toFixed(2)}×`,
      isMet: ratio >= 0.6,
    });
  }
  for (const role of ['frontend', 'runner']) {
    const grown = directGrownMib[role] ?? Number.NaN;
    const found = `${grown.toFixed(0)} MiB`;
    must({ load: 'direct, all of them', must: `${role} grows ≤ 64 MiB`, found, isMet: grown <= 64 });
  }
};

function ratioOf({ proxied, direct: own }: DirectRow): number {
  return own.mibPerS / proxied.mibPerS;
}

function figuresOf(figures: Readonly<Record<string, number>>): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name} ${digits(value)}`)
    .join(', ');
}
