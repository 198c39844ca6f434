-- name: find_delivered_message
-- The newest first: an agent that is of any use has one among the last.
select id from messages where recipient = :agent and deliveries > 0 order by id desc limit 1;

-- name: find_last_kick
-- By the key that each has: the names of keys up to :behind begin with :first.
select * from message_rows
where sender = 'system' and idempotency_key >= :first and idempotency_key < :behind
order by id desc limit 1;
