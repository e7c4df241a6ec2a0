// Runs the contract and integration suites against every pair of servers that is supported: the machine's own
// RabbitMQ and Redis, and Debian 13's, brought by debootstrap into .cache/trixie (380 MB, once) and run by chroot.
// The mirror is the one this machine's own apt uses. Needs root, on a Debian-like machine.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runSuites } from './suites.mjs';

const root = join(import.meta.dirname, '..');
const trixie = join(root, '.cache', 'trixie');
const packages = ['rabbitmq-server', 'redis-server'];
const binaries = ['usr/lib/rabbitmq/bin/rabbitmq-server', 'usr/bin/redis-server'];
const suites = ['contract', 'integration'];

process.exitCode = await main();

async function main() {
  const missing = [
    process.getuid?.() !== 0 && 'root (chroot and debootstrap need it)',
    !binaries.every((path) => existsSync(join('/', path))) && `apt-get install ${packages.join(' ')}`,
    !hasTrixie() && !hasCommand('debootstrap') && 'apt-get install debootstrap',
  ].filter(Boolean);
  if (missing.length > 0) {
    say(`matrix: this needs first: ${missing.join('; ')}`);
    return 2;
  }
  if (!hasTrixie() && !bringTrixie()) return 2;

  const rows = [];
  for (const folder of [undefined, trixie]) {
    const versions = packages.map((name) => `${name.replace('-server', '')} ${versionOf(name, folder)}`).join(', ');
    say(`\n==== ${versions}`);
    for (const [suite, outcome] of await runSuites(suites, environment(folder))) {
      rows.push({ versions, suite, ok: outcome.failed === 0 && outcome.passed > 0, ...outcome });
    }
  }
  printTable(rows);
  for (const { versions, failures } of rows) for (const failure of failures) say(`\n${versions}: ${failure}`);
  return rows.every((row) => row.ok) ? 0 : 1;
}

function hasTrixie() {
  return binaries.every((path) => existsSync(join(trixie, path)));
}

/** Into a folder beside, moved when complete: an interrupted run leaves nothing that looks finished. */
function bringTrixie() {
  const mirror = findMirror();
  if (mirror === undefined) return (say('matrix: no Debian mirror in /etc/apt'), false);
  const partial = `${trixie}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  say(`matrix: bringing Debian 13's ${packages.join(' and ')} into .cache/trixie from ${mirror}`);
  const args = ['--variant=minbase', `--include=${packages.join(',')}`, 'trixie', partial, mirror];
  const { status } = spawnSync('debootstrap', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  // debootstrap mounts /proc while it works; a mount left behind must not be moved along.
  spawnSync('umount', ['--quiet', join(partial, 'proc')]);
  if (status !== 0) {
    say(`matrix: debootstrap failed; its log is ${join(partial, 'debootstrap', 'debootstrap.log')}`);
    return false;
  }
  renameSync(partial, trixie);
  return true;
}

/** The archive that this machine's own release comes from, in either format of sources.list. */
function findMirror() {
  const release = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '';
  for (const text of aptSources()) {
    for (const stanza of text.split(/\n\s*\n/)) {
      const suites = /^Suites:(.*)$/m.exec(stanza)?.[1]?.trim().split(/\s+/) ?? [];
      const uri = /^URIs:\s*(\S+)/m.exec(stanza)?.[1];
      if (uri !== undefined && suites.includes(release)) return uri;
    }
    for (const [, uri, suite] of text.matchAll(/^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)/gm)) {
      if (suite === release) return uri;
    }
  }
  return undefined;
}

function aptSources() {
  const folder = '/etc/apt/sources.list.d';
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  return ['/etc/apt/sources.list', ...files]
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, 'utf8'));
}

function hasCommand(name) {
  return spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;
}

function versionOf(name, folder = '/') {
  const admin = join(folder, 'var/lib/dpkg');
  const { stdout } = spawnSync('dpkg-query', ['--admindir', admin, '--show', '--showformat=${Version}', name]);
  return /^(?:\d+:)?([\d.]+)/.exec(String(stdout))?.[1] ?? 'of unknown version';
}

/** Servers are started by the tests, in the given root folder, each in a mount namespace with its own /proc. */
function environment(folder) {
  const inRoot = folder === undefined ? {} : { FUNCATRON_TEST_RABBIT_ROOT: folder, FUNCATRON_TEST_REDIS_ROOT: folder };
  const { FUNCATRON_TEST_AMQP_URL: _amqp, FUNCATRON_TEST_REDIS_URL: _redis, ...inherited } = process.env;
  // CI: a suite without its server fails instead of being skipped.
  return { ...inherited, ...inRoot, CI: 'true' };
}

function printTable(rows) {
  const width = Math.max(...rows.map((row) => row.versions.length));
  const columns = (...cells) => say(cells.map((cell, i) => String(cell).padEnd([width, 11][i] ?? 6)).join('  '));
  say('');
  columns('servers', 'suite', 'passed', 'failed', 'skipped');
  for (const { versions, suite, passed, failed, skipped, ok } of rows) {
    columns(versions, suite, passed, failed, skipped, ok ? 'ok' : 'FAILED');
  }
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
