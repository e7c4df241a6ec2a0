/** Which runners should hold which revisions: ids by `<bundle>@<revision>`. */
export type Assignments = ReadonlyMap<string, readonly string[]>;

/** Names a revision across bundles: `orders@3f9c0a12be77`. Frontends count their calls in flight under it. */
export function revisionKey(bundle: string, revision: string): string {
  return `${bundle}@${revision}`;
}

/**
 * Spreads revisions over the runners that live. In this version every runner holds every revision, so each is on at
 * least two runners as soon as there are two. Pure: the same input in any order gives the same assignments, ids
 * sorted, and those of one revision do not depend on the others.
 */
export function planAssignments(revisions: Iterable<string>, runners: Iterable<string>): Assignments {
  const all = [...new Set(runners)].sort();
  return new Map([...new Set(revisions)].sort().map((key) => [key, all]));
}
