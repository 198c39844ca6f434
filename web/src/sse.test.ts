import { expect, test } from "vitest";
import { createEventParser } from "./sse.ts";

const STREAM =
  'retry: 1000\nid: 4:0\n: welcome\n\n: alive\n\nid: 5:0\nevent: hive\ndata: {"a":\ndata: 1}\n\ndata:x\r\n\r\n';

test("an event is its name and its lines of data; comments are nothing", () => {
  expect(createEventParser().feed(STREAM)).toEqual([
    { name: "hive", data: '{"a":\n1}' },
    { name: "message", data: "x" },
  ]);
});

test("any cut of the stream into chunks gives the same events", () => {
  const whole = createEventParser().feed(STREAM);
  for (let at = 0; at <= STREAM.length; at += 1) {
    const parser = createEventParser();
    expect([...parser.feed(STREAM.slice(0, at)), ...parser.feed(STREAM.slice(at))]).toEqual(whole);
  }
});

test("an id counts although it came without data, and only once its event is complete", () => {
  const parser = createEventParser("3:0");
  parser.feed("id: 4:0\n");
  expect(parser.lastId).toBe("3:0");
  parser.feed(": welcome\n\ndata: no id\n\n");
  expect(parser.lastId).toBe("4:0");
});
