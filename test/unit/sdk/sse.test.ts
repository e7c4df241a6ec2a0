import assert from 'node:assert/strict';
import fc from 'fast-check';
import { sse, type SseEvent, type SseOptions, type SseSource } from '../../../sdk/index.ts';

type Body = AsyncIterator<string, unknown>;

function bodyOf(source: SseSource, options?: SseOptions): Body {
  return (sse(source, options).body as AsyncIterable<string>)[Symbol.asyncIterator]();
}

async function textOf(source: SseSource, options?: SseOptions): Promise<string> {
  let text = '';
  const body = bodyOf(source, options);
  for (let step = await body.next(); step.done !== true; step = await body.next()) text += step.value;
  return text;
}

/** What an `EventSource` dispatches. Source: https://html.spec.whatwg.org/#event-stream-interpretation */
function dispatched(text: string): { event: string; data: string; id: string }[] {
  const events: { event: string; data: string; id: string }[] = [];
  let [event, data, id] = ['', '', ''];
  for (const line of text.split(/\r\n|\r|\n/)) {
    if (line === '') {
      if (data !== '') events.push({ event: event || 'message', data: data.slice(0, -1), id });
      [event, data] = ['', ''];
      continue;
    }
    const [, field, value = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (field === 'event') event = value;
    else if (field === 'data') data += `${value}\n`;
    else if (field === 'id') id = value;
  }
  return events;
}

describe('sdk/sse', () => {
  it('is an answer that nobody keeps', () => {
    const { status, headers } = sse([], { headers: { 'x-a': 'b' } });
    assert.equal(status, 200);
    assert.deepEqual(headers, {
      'x-a': 'b',
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
  });

  it('begins at once, with how long clients wait before they connect again where that is said', async () => {
    const never: AsyncIterable<string> = {
      [Symbol.asyncIterator]: () => ({ next: () => assert.fail('the source is asked too early') }),
    };
    assert.equal((await bodyOf(never).next()).value, ':\n\n');
    assert.equal((await bodyOf(never, { retryMs: 500 }).next()).value, 'retry: 500\n\n');
  });

  it('writes every field, JSON where data is no text, and a line for each line', async () => {
    const events: (SseEvent | string)[] = [
      'text',
      { event: 'price', id: 7, retry: 10, data: { eur: 1.5 }, comment: 'two\nlines' },
      { data: 'a\r\nb\rc\nd' },
      { data: null },
      { id: '' },
    ];
    assert.equal(
      await textOf(events),
      ':\n\ndata: text\n\n: two\n: lines\nevent: price\nid: 7\nretry: 10\ndata: {"eur":1.5}\n\n' +
        'data: a\ndata: b\ndata: c\ndata: d\n\ndata: null\n\nid: \n\n',
    );
  });

  it('says what a client hears', async () => {
    const line = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !/[\r\n\0]/.test(text));
    const event = fc.record({ data: fc.string({ unit: 'grapheme', minLength: 1 }), event: line, id: line });
    await fc.assert(
      fc.asyncProperty(fc.array(event), async (events) => {
        const heard = events.map(({ data, event: name, id }) => {
          return { event: name || 'message', data: data.replaceAll(/\r\n|\r/g, '\n'), id };
        });
        assert.deepEqual(dispatched(await textOf(events)), heard);
      }),
    );
  });

  for (const [what, event] of [
    ['an id of two lines', { id: 'a\nb' }],
    ['an event with a NUL', { event: 'a\0' }],
    ['a retry that is no number of ms', { retry: 1.5 }],
    ['a value that is no event', { price: 5 }],
    ['data that is not JSON', { data: () => 1 }],
    ['nothing', undefined],
  ] as const) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(textOf([event as SseEvent]), TypeError);
    });
  }

  it('sends comments while the source is silent, asks it once, and loses nothing of it', async () => {
    let asked = 0;
    const gate = Promise.withResolvers<IteratorResult<string, undefined>>();
    const source: AsyncIterableIterator<string> = {
      [Symbol.asyncIterator]: () => source,
      next: () => (++asked === 1 ? gate.promise : Promise.resolve({ done: true, value: undefined })),
    };
    const body = bodyOf(source, { heartbeatMs: 1 });
    await body.next();
    for (let beat = 0; beat < 3; beat++) assert.deepEqual(await body.next(), { done: false, value: ':\n\n' });
    gate.resolve({ done: false, value: 'late' });
    await gate.promise;
    assert.deepEqual(await body.next(), { done: false, value: 'data: late\n\n' });
    assert.equal((await body.next()).done, true);
    assert.equal(asked, 2);
  });

  it('passes on what the source throws, and that nobody listens any more', async () => {
    async function* source(): AsyncGenerator<string> {
      yield 'one';
      throw new Error('broken');
    }
    const body = bodyOf(source());
    await body.next();
    await body.next();
    await assert.rejects(body.next(), /broken/);
    let isLetGo = false;
    function* endless(): Generator<string> {
      try {
        for (;;) yield 'x';
      } finally {
        isLetGo = true;
      }
    }
    const stopped = bodyOf(endless());
    await stopped.next();
    await stopped.next();
    await stopped.return?.();
    assert.equal(isLetGo, true);
  });
});
