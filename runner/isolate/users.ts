import { randomInt } from 'node:crypto';

/** Users that exist for workers alone: how a runner that is root starts what it does not trust as somebody else. */

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** Foreign to every user and service of a machine; as a rule there are no such uids in a container, and then `nobody` has to do. */
const FIRST_UID = 1_879_100_000;
const UIDS = 10_000;
const NOBODY: User = { uid: 65_534, gid: 65_534 };

/** One count for all kinds of workers, begun anywhere: another runner of this machine counts too. */
let next = randomInt(UIDS);

/**
 * Hands out users, each call another one, the same again after 10 000; or always `nobody`, where there are no others.
 * `undefined` where there is none for us.
 * @param works tells whether this runner can start as that user what it has to
 */
export async function findUsers(works: (user: User) => Promise<boolean>): Promise<(() => User) | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  if (await works({ uid: FIRST_UID, gid: FIRST_UID })) {
    return () => {
      const uid = FIRST_UID + (next++ % UIDS);
      return { uid, gid: uid };
    };
  }
  return (await works(NOBODY)) ? () => NOBODY : undefined;
}

/**
 * The words before a command that take from it what it could do more than a user: capabilities, groups, setuid programs.
 * The kernel kills it when its parent dies: said last, because that is forgotten where the user changes.
 * @param user it runs as; default: the one it has
 */
export function asUser(setpriv: string, user?: User): string[] {
  return [
    setpriv,
    '--pdeathsig',
    'KILL',
    '--no-new-privs',
    '--inh-caps=-all',
    // Only root may, and only root has something to lose by it.
    ...(process.getuid?.() === 0 ? ['--bounding-set=-all'] : []),
    ...(user === undefined ? [] : ['--clear-groups', `--regid=${user.gid}`, `--reuid=${user.uid}`]),
    '--',
  ];
}
