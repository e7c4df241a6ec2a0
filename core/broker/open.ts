import { join } from 'node:path';
import { FuncatronError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Broker } from './broker.ts';

/** What either kind of broker is opened with. */
export interface BrokerOptions {
  readonly log: Log;
  /** What RabbitMQ shows as the connections' name: role and id. */
  readonly connectionName: string;
  /** Where the embedded broker keeps its journal. */
  readonly dataDir: string;
}

/**
 * The broker a URL names: `memory:`, or one or more `amqp(s)://…` of one cluster, separated by commas and tried in
 * turn. On RabbitMQ it settles at once and connects in the background: see `Broker.ready`.
 * @throws INVALID_CONFIG when it names neither
 */
export async function openBroker(url: string, options: BrokerOptions): Promise<Broker> {
  const { log, connectionName, dataDir } = options;
  if (url === 'memory:') {
    const { openMemoryBroker } = await import('./memory.ts');
    return await openMemoryBroker({ file: join(dataDir, 'broker.db'), log });
  }
  const urls = url.split(',').map((each) => each.trim());
  for (const each of urls) if (!isAmqp(each)) throw badUrl(urls.indexOf(each));
  const { openAmqpBroker } = await import('./amqp.ts');
  return openAmqpBroker({ urls, connectionName, log });
}

function isAmqp(url: string): boolean {
  const { protocol, hostname } = URL.parse(url) ?? {};
  return (protocol === 'amqp:' || protocol === 'amqps:') && hostname !== '';
}

/** Names the place instead of the value: a URL holds a password. */
function badUrl(index: number): FuncatronError {
  return new FuncatronError(
    'INVALID_CONFIG',
    `broker URL ${index + 1} is neither memory: nor amqp(s)://user:password@host:port/vhost`,
    { data: { hint: 'set FUNCATRON_BROKER_URL or --broker; special characters in the password are percent-encoded' } },
  );
}
