/** A runner in a process of its own, to be killed: `node runner-process.ts '{"id", "dataDir", "brokerUrl", "storeFile" or "storeUrl"}'`. Says "ready" when it takes part. */
import { openAmqpBroker } from '../../core/broker/amqp.ts';
import { readConfig, type Config } from '../../core/config.ts';
import { createLog } from '../../core/log.ts';
import { openStore } from '../../core/store/open.ts';
import { openSqliteStore } from '../../core/store/sqlite.ts';
import { openRunner } from '../../runner/main.ts';

const { id, brokerUrl, storeFile, storeUrl, config } = JSON.parse(process.argv[2] ?? '{}') as {
  id: string;
  brokerUrl: string;
  storeFile: string;
  storeUrl?: string;
  config: Partial<Config>;
};
const log = createLog({ level: 'silent', role: 'runner' });
const broker = openAmqpBroker({ urls: [brokerUrl], connectionName: `runner ${id}`, log });
const store =
  storeUrl === undefined
    ? await openSqliteStore({ file: storeFile, log })
    : await openStore(storeUrl, { dataDir: '', log, role: 'runner' });
const runner = await openRunner({ config: { ...readConfig({}, {}), ...config }, broker, store, log, id });
process.once('SIGTERM', () => void stop());
process.stdout.write('ready\n');

async function stop(): Promise<void> {
  await runner.close();
  await broker.close();
  await store.close();
}
