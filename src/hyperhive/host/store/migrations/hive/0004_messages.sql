-- Bodies apart from states: a state changes three times, and each change writes the page that it stands on.

create table bodies (
    id   integer primary key,
    body text not null
) strict;
insert into bodies (id, body) select id, body from messages;

create table messages_new (
    id              integer primary key autoincrement,
    sender          text not null,
    recipient       text not null,
    -- 0 low, 1 normal, 2 high
    priority        integer not null default 1,
    sent_at         integer not null,
    -- whoever has not been handed it by then never is
    expires_at      integer,
    thread          integer,
    in_reply_to     integer,
    -- of each message of a broadcast: the id of its first
    broadcast       integer,
    idempotency_key text,
    state           text not null check (state in ('queued', 'leased', 'acked', 'expired', 'dead')),
    -- of the harness that holds the lease
    generation      integer,
    deliveries      integer not null default 0,
    failures        integer not null default 0,
    settled_at      integer,
    note            text
) strict;
insert into messages_new (id, sender, recipient, sent_at, thread, in_reply_to, idempotency_key, state, generation,
                          deliveries, failures, settled_at, note)
select id, sender, recipient, sent_at, thread, in_reply_to, idempotency_key, state, generation,
       deliveries, failures, acked_at, note
from messages;
-- Ids are never used again, those of messages that are gone least of all.
update sqlite_sequence set seq = (select seq from sqlite_sequence where name = 'messages') where name = 'messages_new'
    and exists (select 1 from sqlite_sequence where name = 'messages');
drop table messages;
alter table messages_new rename to messages;

-- Only what waits: settled messages cost no index entry.
create index messages_waiting on messages (recipient, priority desc, id) where state in ('queued', 'leased');
create index messages_expiring on messages (expires_at) where state = 'queued' and expires_at is not null;
create index messages_dead on messages (id) where state = 'dead';
create index messages_by_thread on messages (thread, id) where thread is not null;
-- Agents' keys are random and would cost a page each: theirs are looked up in memory.
create unique index messages_by_key on messages (sender, idempotency_key)
    where idempotency_key is not null and sender in ('system', 'operator');

create view message_rows as select messages.*, bodies.body from messages join bodies using (id);
