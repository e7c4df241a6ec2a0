import assert from 'node:assert/strict';
import { CommanderError } from 'commander';
import { EXIT, exitCodeOf, printFailure } from '../../../cli/failure.ts';
import { parseSince } from '../../../cli/logs.ts';
import { formatWeights, printOperations } from '../../../cli/bundles.ts';
import { parseWeights } from '../../../cli/revisions.ts';
import { slugOf } from '../../../cli/scaffold.ts';
import { formatTable, withProgress } from '../../../cli/terminal.ts';
import { type ErrorCode, FuncatronError } from '../../../core/errors.ts';
import { until } from '../../helpers/until.ts';
import { captureTerminal } from './capture-terminal.ts';

describe('cli/terminal', () => {
  it('aligns columns by their longest cell, without blanks at the end of a line', () => {
    const table = formatTable(
      ['name', 'n'],
      [
        ['long name', '1'],
        ['x', '22'],
      ],
    );
    assert.equal(table, 'NAME       N\nlong name  1\nx          22');
  });

  it('says nothing while work is quick or nobody reads along, and what takes so long when it is slow', async () => {
    const quick = captureTerminal(true);
    assert.equal(await withProgress(quick, 'working', Promise.resolve(7)), 7);
    const nobody = captureTerminal(false);
    await withProgress(nobody, 'working', Promise.resolve());
    assert.deepEqual([...quick.saidLines, ...nobody.saidLines], []);

    const slow = captureTerminal(true);
    const { promise, resolve } = Promise.withResolvers<string>();
    const work = withProgress(slow, 'working', promise);
    await until('it says so', () => slow.saidLines.length > 0);
    resolve('done');
    assert.equal(await work, 'done');
    assert.match(slow.saidLines[0] ?? '', /^working … \d+ s$/);
  });
});

describe('cli/failure', () => {
  it('gives each kind of failure its exit code', () => {
    const codes: readonly [ErrorCode, number][] = [
      ['INVALID_CONFIG', EXIT.usage],
      ['TRON_DOWN', EXIT.unreachable],
      ['STORE_DOWN', EXIT.unreachable],
      ['INVALID_BUNDLE', EXIT.refused],
      ['UNAUTHENTICATED', EXIT.refused],
      ['NOT_FOUND', EXIT.refused],
      ['FUNC_ERROR', EXIT.failed],
      ['INTERNAL', EXIT.failed],
    ];
    for (const [code, exit] of codes) assert.equal(exitCodeOf(new FuncatronError(code, 'x')), exit, code);
    assert.equal(exitCodeOf(new CommanderError(1, 'commander.unknownCommand', 'x')), EXIT.usage);
    assert.equal(exitCodeOf(new CommanderError(0, 'commander.help', 'x')), EXIT.ok);
    assert.equal(exitCodeOf(new Error('x')), EXIT.failed);
  });

  it('prints message and code, every problem with its place and hint, and what to do next', () => {
    const terminal = captureTerminal();
    const problems = [
      { message: 'is no method', file: 'funcatron.yaml', line: 3, column: 7, pointer: '/paths', hint: 'name one' },
      { message: 'must be integer', pointer: '/query/times' },
    ];
    printFailure(terminal, new FuncatronError('INVALID_BUNDLE', 'refused it', { data: { problems, hint: 'mend it' } }));
    assert.deepEqual(terminal.saidLines, [
      'error: refused it [INVALID_BUNDLE]',
      '  funcatron.yaml:3:7  is no method (/paths)',
      '    → name one',
      '  /query/times  must be integer',
      '  → mend it',
    ]);
  });

  it('says in its own words what management API hints say as requests', () => {
    const terminal = captureTerminal();
    const data = { hint: 'GET /v1/bundles/hello lists its operations' };
    printFailure(terminal, new FuncatronError('NOT_FOUND', 'hello has no operation x', { data }));
    assert.match(terminal.saidLines.at(-1) ?? '', /funcatron describe <bundle>/);
  });

  it('shows the stack of a defect, and of nothing else', () => {
    const defect = captureTerminal();
    printFailure(defect, new TypeError('x is not a function'));
    assert.match(defect.saidLines.join('\n'), /\[INTERNAL\]\nTypeError: x is not a function\n +at /);
    const known = captureTerminal();
    printFailure(known, new FuncatronError('NOT_FOUND', 'no bundle is called x', { cause: new Error('inner') }));
    assert.doesNotMatch(known.saidLines.join('\n'), /inner|at /);
  });
});

describe('cli arguments', () => {
  it('reads revisions and their shares', () => {
    assert.deepEqual(parseWeights(['3f9c0a12be77']), { '3f9c0a12be77': 100 });
    assert.deepEqual(parseWeights(['3f9c0a12be77=90', '81d2aa0c4f10=10']), { '3f9c0a12be77': 90, '81d2aa0c4f10': 10 });
    assert.throws(() => parseWeights(['3f9c0a12be77', '81d2aa0c4f10=10']), /3f9c0a12be77=50/);
    for (const text of ['live', '3f9c0a12be7', '3f9c0a12be77=', '3f9c0a12be77=-1']) {
      // Not one of commander's own, which it has printed already: this one is still to be printed.
      assert.throws(() => parseWeights([text]), { code: 'INVALID_CONFIG', message: /neither a revision/ }, text);
    }
  });

  it('writes weights as shares', () => {
    assert.equal(formatWeights({}), 'nothing');
    assert.equal(formatWeights({ '3f9c0a12be77': 100, '81d2aa0c4f10': 0 }), '3f9c0a12be77');
    assert.equal(formatWeights({ a: 1, b: 2 }), 'a 33%, b 67%');
  });

  it('says of an operation without a route that only the queue reaches it', () => {
    const lines: string[] = [];
    const operations = [
      { operationId: 'get', method: 'GET', path: '/shop', http: true },
      { operationId: 'onPaid', method: 'POST', path: '/shop/paid', http: false },
    ];
    printOperations(operations, { out: (line) => lines.push(...line.split('\n')) });
    assert.deepEqual(
      lines.map((line) => line.trim().split(/ {2,}/)),
      [
        ['METHOD', 'PATH', 'OPERATION'],
        ['GET', '/shop', 'get'],
        ['-', 'queue only', 'onPaid'],
      ],
    );
  });

  it('reads times ago and times of day', () => {
    const now = Date.parse('2026-11-21T12:00:00Z');
    assert.equal(parseSince('10m', undefined, now), '2026-11-21T11:50:00.000Z');
    assert.equal(parseSince('1d', undefined, now), '2026-11-20T12:00:00.000Z');
    assert.equal(parseSince('2026-11-21T10:00:00+01:00'), '2026-11-21T09:00:00.000Z');
    assert.throws(() => parseSince('yesterday'), /ISO 8601/);
  });

  it('makes a bundle’s name of a folder’s', () => {
    assert.equal(slugOf('My Bundle (2)'), 'my-bundle-2');
    assert.equal(slugOf('Ünï'), 'n');
    assert.equal(slugOf('x'.repeat(80)).length, 63);
  });
});
