// Runs the test suites and closes with one line of totals, and after it the failures again: whoever sees only the end
// of a long log sees them all. `npm test -- unit cluster` runs only the suites and the files of that name.
import { runSuites, sum } from './suites.mjs';

const outcomes = await runSuites(process.argv.slice(2), process.env);
const { passed, failed, skipped, failures } = sum([...outcomes.values()]);
process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped} skipped\n`);
for (const failure of failures) process.stdout.write(`\n${failure}\n`);
// Under CI a suite that was skipped because its server is missing counts as failed: see test/helpers/servers.
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
