-- name: insert_message
insert into messages (sender, recipient, body, sent_at, thread, in_reply_to, idempotency_key)
values (:sender, :recipient, :body, :at, :thread, :in_reply_to, :key)
returning *;

-- name: find_message_by_key
select * from messages where sender = :sender and idempotency_key = :key;

-- name: get_message
select * from messages where id = :id;

-- name: lease_messages
-- What waits is found by the index messages_waiting: SQLite uses it only where its condition stands word for word.
-- In the order they were sent: what was requeued keeps its id and comes first. At least one, then up to :bytes.
update messages
set state = 'leased', generation = :generation, deliveries = deliveries + 1
where id in (
    select id from (
        select id, row_number() over (order by id) as nth, sum(length(cast(body as blob))) over (order by id) as total
        from (select id, body from messages where recipient = :recipient and state in ('queued', 'leased') and state = 'queued' order by id limit :max)
    ) where nth = 1 or total <= :bytes
)
returning *;

-- name: count_queued
select count(*) as waiting from messages
where recipient = :recipient and state in ('queued', 'leased') and state = 'queued';

-- name: count_queued_by_recipient
select recipient, count(*) as waiting from messages
where state in ('queued', 'leased') and state = 'queued'
group by recipient;

-- name: ack_message
update messages set state = 'acked', acked_at = :at
where id = :id and recipient = :recipient and state = 'leased' and generation = :generation
returning *;

-- name: read_message
-- The operator reads without a lease.
update messages set state = 'acked', acked_at = :at
where id = :id and recipient = 'operator' and state = 'queued'
returning *;

-- name: requeue_message
-- Counts a failure if asked to; after :attempts failures the message is dead until somebody requeues it.
update messages
set state = case when failures + :failed >= :attempts then 'dead' else 'queued' end,
    failures = failures + :failed,
    note = :reason
where id = :id and recipient = :recipient and state = 'leased' and generation = :generation
returning *;

-- name: list_leased
select * from messages
where recipient = :recipient and state in ('queued', 'leased') and state = 'leased'
order by id;

-- name: release_lease
-- Like requeue_message, whoever holds it.
update messages
set state = case when failures + :failed >= :attempts then 'dead' else 'queued' end,
    failures = failures + :failed,
    note = :reason
where id = :id and state = 'leased'
returning *;

-- name: bury_messages
-- What waits for one who will not come back.
update messages set state = 'dead', note = :reason
where recipient = :recipient and state in ('queued', 'leased')
returning *;

-- name: list_messages
select * from messages
where id < :before and (:agent is null or sender = :agent or recipient = :agent)
order by id desc limit :limit;

-- name: list_inbox
select * from messages where id < :before and recipient = 'operator' order by id desc limit :limit;
