-- name: insert_message
insert into messages (sender, recipient, priority, sent_at, expires_at, thread, in_reply_to, broadcast, idempotency_key,
                      state)
values (:sender, :recipient, :priority, :at, :expires_at, :thread, :in_reply_to, :broadcast, :key, 'queued')
returning id;

-- name: insert_body
insert into bodies (id, body) values (:id, :body);

-- name: newest_message_id
-- Of those that are gone, too: an id is never used again.
select coalesce((select seq from sqlite_sequence where name = 'messages'), 0) as id;

-- name: plan_sends
-- The same, and who of many can be sent to.
select coalesce((select seq from sqlite_sequence where name = 'messages'), 0) as newest,
       json_group_array(name) as known
from agents
where destroyed_at is null and name in (select value from json_each(:recipients));

-- name: insert_sent
insert into messages (id, sender, recipient, priority, sent_at, expires_at, thread, in_reply_to, broadcast,
                      idempotency_key, state, generation, deliveries)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_body_row
insert into bodies (id, body)
values (?, ?);

-- name: list_broadcast
-- They were stored together, and their ids follow each other.
select id from messages where id between :broadcast and :broadcast + 10000 and broadcast = :broadcast order by id;

-- name: list_recent_keys
-- Agents' own, the oldest first.
select id, sender, idempotency_key as key from messages
where id > (select coalesce(max(id), 0) from messages) - :reach
    and idempotency_key is not null and sender not in ('system', 'operator')
order by id;

-- name: replace_body
-- Of what nobody has seen yet.
update bodies set body = :body
where id = :id and exists (select 1 from messages where id = :id and state = 'queued')
returning id;

-- name: find_message_by_key
-- The index holds the keys of these two alone, and SQLite uses it only where its condition stands word for word.
select * from message_rows
where sender = :sender and idempotency_key = :key and sender in ('system', 'operator');

-- name: get_message
select * from message_rows where id = :id;

-- name: lease_messages
-- What waits is found by the index messages_waiting: SQLite uses it only where its condition stands word for word.
-- In the order they were sent: what was requeued keeps its id and comes first. At least one, then up to :bytes.
update messages
set state = 'leased', generation = :generation, deliveries = deliveries + 1
where id in (
    select id from (
        select id,
               row_number() over (order by priority desc, id) as nth,
               sum(length(cast(body as blob))) over (order by priority desc, id) as total
        from (
            select messages.id, messages.priority, bodies.body from messages join bodies using (id)
            where recipient = :recipient and state in ('queued', 'leased') and state = 'queued'
                and (expires_at is null or expires_at > :at)
            order by priority desc, id limit :max
        )
    ) where nth = 1 or total <= :bytes
)
returning id;

-- name: count_queued
select count(*) as waiting from messages
where recipient = :recipient and state in ('queued', 'leased') and state = 'queued';

-- name: count_queued_between
select count(*) as waiting from messages
where recipient = :recipient and state in ('queued', 'leased') and state = 'queued' and sender = :sender;

-- name: count_queued_by_recipient
select recipient, count(*) as waiting from messages
where state in ('queued', 'leased') and state = 'queued'
group by recipient;

-- name: find_leased
-- Those of many that are held by who says so, as one row. Each is [id, recipient, generation].
select json_group_array(messages.id) as ids
from json_each(:rows) as given
join messages on messages.id = given.value ->> 0
where state = 'leased' and recipient = given.value ->> 1 and generation = given.value ->> 2;

-- name: ack_messages
update messages set state = 'acked', settled_at = :at where id in (select value from json_each(:ids));

-- name: read_message
-- The operator reads without a lease.
update messages set state = 'acked', settled_at = :at
where id = :id and recipient = 'operator' and state = 'queued'
returning id;

-- name: requeue_message
-- Counts a failure if asked to; after :attempts failures the message is dead until somebody requeues it.
update messages
set state = case when failures + :failed >= :attempts then 'dead' else 'queued' end,
    settled_at = case when failures + :failed >= :attempts then :at end,
    failures = failures + :failed,
    note = :reason
where id = :id and recipient = :recipient and state = 'leased' and generation = :generation
returning id, state;

-- name: list_leased
select * from messages
where recipient = :recipient and state in ('queued', 'leased') and state = 'leased'
order by id;

-- name: release_lease
-- Like requeue_message, whoever holds it.
update messages
set state = case when failures + :failed >= :attempts then 'dead' else 'queued' end,
    settled_at = case when failures + :failed >= :attempts then :at end,
    failures = failures + :failed,
    note = :reason
where id = :id and state = 'leased'
returning id, state;

-- name: bury_messages
-- What waits for one who will not come back.
update messages set state = 'dead', settled_at = :at, note = :reason
where recipient = :recipient and state in ('queued', 'leased')
returning id, state;

-- name: requeue_dead
-- With all its attempts before it, and for good: an expiry that has passed would end it at once.
update messages set state = 'queued', settled_at = null, failures = 0, expires_at = null, note = :reason
where id = :id and state = 'dead'
returning id;

-- name: expire_messages
update messages set state = 'expired', settled_at = :at
where id in (
    select id from messages where state = 'queued' and expires_at is not null and expires_at <= :at limit :limit
)
returning id, recipient;

-- name: next_expiry
select min(expires_at) as at from messages where state = 'queued' and expires_at is not null;

-- name: list_receipts
-- Of one message, or of all of a broadcast by the id of its first.
select * from message_rows
where sender = :sender and id between :id and :id + 10000 and (id = :id or broadcast = :id)
order by id;

-- name: list_messages
select * from message_rows
where id < :before and (:agent is null or sender = :agent or recipient = :agent)
order by id desc limit :limit;

-- name: list_inbox
select * from message_rows where id < :before and recipient = 'operator' order by id desc limit :limit;
