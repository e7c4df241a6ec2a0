import assert from 'node:assert/strict';
import { parseCommand, type Command } from '../../../tron/commands.ts';

const parse = (command: unknown, rest: object = {}) =>
  parseCommand(Buffer.from(JSON.stringify({ v: 1, id: 'c1', deadline: 1, command, ...rest })));

const COMMANDS: readonly Command[] = [
  { type: 'deploy', bundle: 'orders', digest: 'd', goLive: true },
  { type: 'alias', bundle: 'orders', weights: { aaaaaaaaaaaa: 1 } },
  { type: 'rollback', bundle: 'orders' },
  { type: 'remove', bundle: 'orders', purge: false },
  { type: 'scale', bundle: 'orders', workers: { min: 1, max: 2 } },
  { type: 'members' },
];

describe('tron/commands', () => {
  it('takes what followers send', () => {
    for (const command of COMMANDS) assert.deepEqual(parse(command)?.command, command);
  });

  it('takes nothing else: what a command says goes into the registry', () => {
    for (const bad of [null, 1, [], {}, { type: 'x', bundle: 'orders' }]) assert.equal(parse(bad), undefined);
    for (const rest of [{ v: 2 }, { id: 1 }, { deadline: 'x' }]) assert.equal(parse(COMMANDS[5], rest), undefined);
    assert.equal(parseCommand(Buffer.from('{')), undefined);
    const weights = [null, [], {}, { aaaaaaaaaaaa: 'x' }, { aaaaaaaaaaaa: -1 }];
    for (const each of weights) assert.equal(parse({ ...COMMANDS[1], weights: each }), undefined);
    const workers = [null, {}, { min: 'x', max: null }, { min: 0.5, max: 1 }];
    for (const each of workers) assert.equal(parse({ ...COMMANDS[4], workers: each }), undefined);
    for (const command of COMMANDS.slice(0, 5)) assert.equal(parse({ ...command, bundle: {} }), undefined);
  });
});
