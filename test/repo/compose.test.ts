import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { CORE_SCHEMA, load, mergeTag } from 'js-yaml';
import { CONFIG, envOf, type ConfigKey } from '../../core/config.ts';

const root = join(import.meta.dirname, '../..');

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly healthcheck?: unknown;
  readonly init?: boolean;
  readonly read_only?: boolean;
  readonly user?: string;
  readonly ports?: readonly string[];
  readonly cap_drop?: readonly string[];
  readonly stop_grace_period?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, { condition: string }>>;
}

function readCompose(): { services: Record<string, Service> } {
  const text = readFileSync(join(root, 'docker-compose.yml'), 'utf8');
  return load(text, { schema: CORE_SCHEMA.withTags(mergeTag) }) as { services: Record<string, Service> };
}

/** The compose-spec's own schema, as the linter for compose files ships it. */
function composeSchema(): object {
  const entry = createRequire(import.meta.url).resolve('dclint');
  const folder = entry.slice(0, entry.lastIndexOf(`node_modules/dclint`) + 'node_modules/dclint'.length);
  return JSON.parse(readFileSync(join(folder, 'schemas/compose.schema.json'), 'utf8')) as object;
}

describe('docker-compose.yml', () => {
  const { services } = readCompose();
  const roles = Object.entries(services).filter(([, service]) => service.image.startsWith('funcatron'));

  it('is valid by the compose-spec schema', () => {
    const { $schema: _draft, ...schema } = composeSchema() as { $schema: string };
    const validate = new Ajv({ strict: false, allErrors: true, validateFormats: false }).compile(schema);
    assert.ok(validate(readCompose()), JSON.stringify(validate.errors));
  });

  it('has two frontends, a tron and two runners', () => {
    const commands = roles.map(([, service]) => service.command?.[0] ?? '').toSorted();
    assert.deepEqual(commands, ['frontend', 'frontend', 'runner', 'runner', 'tron']);
  });

  it('locks every role down and gives it a health check', () => {
    for (const [name, service] of roles) {
      assert.equal(service.init, true, name);
      assert.equal(service.read_only, true, name);
      assert.deepEqual(service.cap_drop, ['ALL'], name);
      assert.ok(service.healthcheck, name);
    }
    assert.match(readFileSync(join(root, 'Dockerfile'), 'utf8'), /^USER node$/m);
  });

  it('waits for healthy servers and stops later than the longest drain', () => {
    for (const [name, service] of roles) {
      assert.equal(service.depends_on?.['rabbitmq']?.condition, 'service_healthy', name);
      assert.equal(service.depends_on?.['store']?.condition, 'service_healthy', name);
      assert.ok(Number.parseInt(service.stop_grace_period ?? '0', 10) * 1_000 > CONFIG.drainMs.default, name);
    }
  });

  it('publishes neither the broker nor the store, and does not use guest', () => {
    assert.equal(services['rabbitmq']?.ports, undefined);
    assert.equal(services['store']?.ports, undefined);
    assert.notEqual(services['rabbitmq']?.environment?.['RABBITMQ_DEFAULT_USER'], 'guest');
  });

  it('sets only variables that the configuration table knows', () => {
    const known = new Set((Object.keys(CONFIG) as ConfigKey[]).map((key) => envOf(key)));
    for (const [name, service] of roles) {
      for (const variable of Object.keys(service.environment ?? {}))
        assert.ok(known.has(variable), `${name}: ${variable}`);
    }
    const image = readFileSync(join(root, 'Dockerfile'), 'utf8').match(/FUNCATRON_\w+(?==)/g) ?? [];
    for (const variable of image) assert.ok(known.has(variable), variable);
  });
});
