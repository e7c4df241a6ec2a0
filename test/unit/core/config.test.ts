import assert from 'node:assert/strict';
import { CONFIG, envOf, flagOf, readConfig } from '../../../core/config.ts';
import { FuncatronError } from '../../../core/errors.ts';

describe('core/config', () => {
  it('takes flags before the environment before defaults', () => {
    const config = readConfig({ httpPort: '9000' }, { FUNCATRON_HTTP_PORT: '9001', FUNCATRON_TRON_PORT: '9002' });
    assert.equal(config.httpPort, 9000);
    assert.equal(config.tronPort, 9002);
    assert.equal(config.callTimeoutMs, CONFIG.callTimeoutMs.default);
  });

  it('has the documented names', () => {
    assert.equal(flagOf('dataDir'), '--data');
    assert.equal(envOf('dataDir'), 'FUNCATRON_DATA');
    assert.equal(flagOf('brokerUrl'), '--broker');
    assert.equal(envOf('brokerUrl'), 'FUNCATRON_BROKER_URL');
    assert.equal(envOf('storeUrl'), 'FUNCATRON_STORE_URL');
    assert.equal(flagOf('httpPort'), '--http-port');
    assert.equal(envOf('token'), 'FUNCATRON_TOKEN');
  });

  it('reads a value from the file its …_FILE variable names', () => {
    const files: Record<string, string> = { '/run/secrets/token': 'sesame\n' };
    const config = readConfig({}, { FUNCATRON_TOKEN_FILE: '/run/secrets/token' }, (path) => files[path] ?? '');
    assert.equal(config.token, 'sesame');
  });

  it('lists every bad value at once, names where each came from, and shows no secret', () => {
    const bad = {
      FUNCATRON_HTTP_PORT: '70000',
      FUNCATRON_LOG_LEVEL: 'loud',
      FUNCATRON_LEASE_MS: 'soon',
      FUNCATRON_ALLOW_WEAK_ISOLATION: 'maybe',
    };
    assert.throws(
      () => readConfig({ drainMs: '-1' }, bad),
      (error: unknown) => {
        assert.ok(error instanceof FuncatronError);
        assert.equal(error.code, 'INVALID_CONFIG');
        assert.deepEqual(error.data.problems?.map((problem) => problem.message.split(':')[0]).toSorted(), [
          '--drain-ms',
          'FUNCATRON_ALLOW_WEAK_ISOLATION',
          'FUNCATRON_HTTP_PORT',
          'FUNCATRON_LEASE_MS',
          'FUNCATRON_LOG_LEVEL',
        ]);
        return true;
      },
    );
  });

  it('lists a broker and a store of unknown kinds with the others, without the URL', () => {
    const flags = { httpPort: '99999', brokerUrl: 'amqp://a:sesame@one,kafka://a:sesame@two', storeUrl: 'mysql:' };
    assert.throws(
      () => readConfig(flags, {}),
      (error: unknown) => {
        assert.ok(error instanceof FuncatronError);
        assert.match(error.message, /--http-port: .+; --broker: .+ amqp:, amqps:; --store: .+ redis:, rediss:$/);
        assert.doesNotMatch(JSON.stringify([error.message, error.data]), /sesame|kafka|mysql/);
        return true;
      },
    );
  });

  for (const [brokerUrl, storeUrl] of [
    ['memory:', 'sqlite:'],
    ['amqp://one, AMQPS://a:b@two/vhost', 'Redis://h:1/0'],
    ['amqps://h', 'rediss://:p@h'],
  ] as const) {
    it(`takes ${brokerUrl} with ${storeUrl}`, () => {
      assert.deepEqual({ ...readConfig({ brokerUrl, storeUrl }, {}) }, { ...readConfig({}, {}), brokerUrl, storeUrl });
    });
  }

  for (const value of ['', ' ', '1.5', '1e3x', '0x10', 'NaN']) {
    it(`refuses ${JSON.stringify(value)} where a whole number from 0 to 65535 belongs`, () => {
      if (value === '0x10') assert.equal(readConfig({ httpPort: value }, {}).httpPort, 16);
      else assert.throws(() => readConfig({ httpPort: value }, {}), { code: 'INVALID_CONFIG' });
    });
  }
});
