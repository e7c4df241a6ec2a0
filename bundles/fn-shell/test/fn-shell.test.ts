import assert from 'node:assert/strict';
import { hasProgram } from '../../../test/helpers/programs.ts';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';

describe('bundles/fn-shell', () => {
  let cluster: EmbeddedCluster | undefined;
  before(async function () {
    this.timeout(60_000);
    if (!hasProgram('awk')) this.skip();
    cluster = await openEmbedded();
    await cluster.deploy('bundles/fn-shell');
  });
  after(() => cluster?.close());

  async function ask(init: RequestInit = {}): Promise<{ status: number; text: string }> {
    const response = await fetch(`${cluster?.httpUrl}/fn-shell/`, init);
    return { status: response.status, text: await response.text() };
  }

  it('says hello and shows the headers it got', async () => {
    const { status, text } = await ask({ headers: { 'x-mine': 'yes' } });
    assert.equal(status, 200);
    assert.match(text, /^Hello, world!\n/);
    assert.match(text, /^x-mine: yes$/im);
    assert.match(text, /^fn_method: GET$/im);
    assert.match(text, /^fn_call_id: [0-9a-f-]{36}$/im);
  });

  it('reads as much as Content-Length says, call after call', async () => {
    for (const name of ['Ada', 'Grace & co', 'a'.repeat(5000)]) {
      const { text } = await ask({ method: 'POST', headers: { 'content-type': 'text/plain' }, body: name });
      assert.equal(text.split('\n', 1)[0], `Hello, ${name}!`);
    }
  });
});
