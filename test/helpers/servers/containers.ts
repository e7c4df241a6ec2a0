import { existsSync } from 'node:fs';
import type { GenericContainer } from 'testcontainers';

/** A server as a container: what is asked of the engine. */
export interface ContainerRequest {
  readonly image: string;
  readonly port: number;
  /** The line of its log that says it is up. */
  readonly ready: RegExp;
  readonly command?: readonly string[];
}

export const rabbitContainer: ContainerRequest = {
  image: 'rabbitmq:4',
  port: 5672,
  ready: /Server startup complete/,
};

export const redisContainer: ContainerRequest = {
  image: 'redis:8',
  port: 6379,
  ready: /Ready to accept connections/,
  command: ['redis-server', '--appendonly', 'yes'],
};

/** Whether an engine may be there: cheap, so that machines without one do not load testcontainers. */
export function mayHaveContainers(): boolean {
  return process.env['DOCKER_HOST'] !== undefined || existsSync('/var/run/docker.sock');
}

/** The container as testcontainers will ask for it. */
export async function buildContainer(request: ContainerRequest): Promise<GenericContainer> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const container = new GenericContainer(request.image)
    .withExposedPorts(request.port)
    .withWaitStrategy(Wait.forLogMessage(request.ready))
    .withStartupTimeout(120_000);
  return request.command === undefined ? container : container.withCommand([...request.command]);
}

/** Starts it; `host:port` to reach it, or `undefined` when no engine answers. Testcontainers' reaper ends it with this process. */
export async function startContainer(request: ContainerRequest): Promise<string | undefined> {
  if (!mayHaveContainers()) return undefined;
  const { getContainerRuntimeClient } = await import('testcontainers');
  try {
    await getContainerRuntimeClient();
  } catch {
    return undefined; // a socket without an engine behind it
  }
  const started = await (await buildContainer(request)).start();
  return `${started.getHost()}:${started.getMappedPort(request.port)}`;
}
