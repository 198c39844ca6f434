import { expect, test } from "vitest";
import type { Api } from "../api.ts";
import type { TranscriptEvent } from "../api_types.ts";
import { createEvent } from "../testing/recordings.ts";
import { createTranscriptFeed } from "./feed.ts";

const notice = (seq: number) => createEvent(seq, "notice", { text: `${seq}` });
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => notice(from + i));

/** A feed over a hive that holds events 1 to `stored.last`. */
function createFeed(stored: { last: number }) {
  const transcript = async (_: string, before = Number.MAX_SAFE_INTEGER, limit = 200) =>
    range(1, stored.last)
      .filter((event) => event.seq < before)
      .slice(-limit);
  const feed = createTranscriptFeed({ transcript } as unknown as Api, "alice");
  return { feed, seqs: () => feed.transcript.value.rows.map((row) => Number(row.key)) };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));
const run = (events: TranscriptEvent[]) => events.map((event) => event.seq);

test("events that come while the first page is fetched follow on it, once each", async () => {
  const { feed, seqs } = createFeed({ last: 3 });
  feed.onUp();
  feed.onEvents([notice(3), notice(4)]);
  await settled();
  expect(seqs()).toEqual([1, 2, 3, 4]);
  expect(feed.atStart.value).toBe(true);
});

test("a gap is filled from the hive instead of being shown as if nothing was missing", async () => {
  const stored = { last: 3 };
  const { feed, seqs } = createFeed(stored);
  feed.onUp();
  await settled();
  stored.last = 8;
  feed.onEvents([notice(4), notice(7), notice(8)]);
  await settled();
  expect(seqs()).toEqual(run(range(1, 8)));
});

test("a reconnect after a short time joins, after a long one begins anew with the newest page", async () => {
  const stored = { last: 100 };
  const { feed, seqs } = createFeed(stored);
  feed.onUp();
  await settled();
  stored.last = 150;
  feed.onUp();
  await settled();
  expect(seqs()).toEqual(run(range(1, 150)));
  stored.last = 900;
  feed.onUp();
  await settled();
  expect(seqs()).toEqual(run(range(701, 900)));
  expect(feed.atStart.value).toBe(false);
});

test("older pages come before what is there, down to the beginning", async () => {
  const { feed, seqs } = createFeed({ last: 450 });
  feed.onUp();
  await settled();
  expect(seqs()[0]).toBe(251);
  await feed.loadOlder();
  expect(seqs()[0]).toBe(51);
  await feed.loadOlder();
  expect(seqs()).toEqual(run(range(1, 450)));
  expect(feed.atStart.value).toBe(true);
});

test("a failed first page is told and can be asked for again", async () => {
  let broken = true;
  const transcript = async () => {
    if (broken) throw new Error("down");
    return [notice(1)];
  };
  const feed = createTranscriptFeed({ transcript } as unknown as Api, "alice");
  feed.onUp();
  await settled();
  expect(feed.status.value).toBe("failed");
  broken = false;
  feed.onUp();
  await settled();
  expect(feed.transcript.value.rows).toHaveLength(1);
});
