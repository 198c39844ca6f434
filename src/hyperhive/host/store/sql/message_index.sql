-- name: get_index_range
select low, high, sent_at from index_range;

-- name: find_newest_message
select id, sent_at from messages order by id desc limit 1;

-- name: find_sent_at
select sent_at from messages where id = :id;

-- name: set_index_range
insert into index_range (one, low, high, sent_at) values (1, :low, :high, :sent_at)
on conflict (one) do update set low = excluded.low, high = excluded.high, sent_at = excluded.sent_at;

-- name: plan_index_up
-- The next ones that are not in the index: at least one, then up to :bytes.
select max(id) as id, count(*) as messages from (
    select id, row_number() over (order by id) as nth, sum(length(body)) over (order by id) as total
    from (select id, body from bodies where id > :high order by id limit :limit)
) where nth = 1 or total <= :bytes;

-- name: plan_index_down
-- The same towards the oldest.
select min(id) as id, count(*) as messages from (
    select id, row_number() over (order by id desc) as nth, sum(length(body)) over (order by id desc) as total
    from (select id, body from bodies where id <= :low order by id desc limit :limit)
) where nth = 1 or total <= :bytes;

-- name: index_messages
insert into message_index (rowid, body, who)
select id, body, 's' || hex(sender) || ' r' || hex(recipient) from message_rows
where id > :low and id <= :high
order by id;

-- name: copy_messages
-- A notice of the hive's that waits may be made to tell of something newer; a dead one may wait again.
insert into index_copies (id, body)
select id, body from message_rows
where id > :low and id <= :high and sender = 'system' and state in ('queued', 'leased', 'dead');

-- name: list_changed_copies
-- Not by the view: SQLite would begin with the messages, and there are more of those.
select messages.id, index_copies.body as was, bodies.body, sender, recipient
from index_copies cross join bodies using (id) cross join messages using (id)
where bodies.body <> index_copies.body;

-- name: change_copy
update index_copies set body = :body where id = :id;

-- name: drop_copies
-- Their texts do not change any more.
delete from index_copies where not exists (
    select 1 from messages where messages.id = index_copies.id and state in ('queued', 'leased', 'dead')
);

-- name: find_indexed
select coalesce((select body from index_copies where id = :id), :body) as body
from message_index_docsize where id = :id;

-- name: index_message
insert into message_index (rowid, body, who)
values (:id, :body, 's' || hex(:sender) || ' r' || hex(:recipient));

-- name: unindex_message
-- With the very text that was indexed: there is no other way.
insert into message_index (message_index, rowid, body, who)
values ('delete', :id, :body, 's' || hex(:sender) || ' r' || hex(:recipient));

-- name: drop_copy
delete from index_copies where id = :id;

-- name: count_unindexed
select (select count(*) from messages where id > index_range.high) as newer,
       (select count(*) from messages where id <= index_range.low) as older
from index_range;

-- name: find_messages
-- By the index, the newest first. Only what is shown is read as a whole.
select * from message_rows where id in (
    select message_index.rowid from message_index cross join messages on messages.id = message_index.rowid
    where message_index match :match and message_index.rowid < :before and message_index.rowid > :after
        and (:agent is null or sender = :agent or recipient = :agent)
        and (:recipient is null or recipient = :recipient)
        and (:state is null or state = :state)
        and (:kind is null or :kind = iif(sender in ('operator', 'manager', 'system'), sender, 'peer'))
    order by message_index.rowid desc limit :limit
)
order by id desc;

-- name: scan_messages
-- One after another, the newest first.
select * from message_rows where id in (
    select id from messages
    where id < :before and id > :after
        and (:agent is null or sender = :agent or recipient = :agent)
        and (:recipient is null or recipient = :recipient)
        and (:state is null or state = :state)
        and (:kind is null or :kind = iif(sender in ('operator', 'manager', 'system'), sender, 'peer'))
    order by id desc limit :limit
)
order by id desc;

-- name: scan_messages_after
-- The same, the oldest first.
select * from message_rows where id in (
    select id from messages
    where id > :after
        and (:agent is null or sender = :agent or recipient = :agent)
        and (:recipient is null or recipient = :recipient)
        and (:state is null or state = :state)
        and (:kind is null or :kind = iif(sender in ('operator', 'manager', 'system'), sender, 'peer'))
    order by id limit :limit
)
order by id;

-- name: list_waiting_messages
-- SQLite uses the index of what waits only where its condition stands word for word.
select * from message_rows where id in (
    select id from messages indexed by messages_waiting
    where state in ('queued', 'leased') and state = :state and id < :before
        and (:agent is null or sender = :agent or recipient = :agent)
        and (:recipient is null or recipient = :recipient)
        and (:kind is null or :kind = iif(sender in ('operator', 'manager', 'system'), sender, 'peer'))
        and (:match is null or exists (
            select 1 from message_index where message_index match :match and message_index.rowid = messages.id
        ))
    order by id desc limit :limit
)
order by id desc;

-- name: list_waiting_for
-- The same of one recipient.
select * from message_rows where id in (
    select id from messages indexed by messages_waiting
    where recipient = :recipient and state in ('queued', 'leased') and state = :state and id < :before
        and (:agent is null or sender = :agent or recipient = :agent)
        and (:kind is null or :kind = iif(sender in ('operator', 'manager', 'system'), sender, 'peer'))
        and (:match is null or exists (
            select 1 from message_index where message_index match :match and message_index.rowid = messages.id
        ))
    order by id desc limit :limit
)
order by id desc;

-- name: list_dead_messages
select * from message_rows where id in (
    select id from messages
    where state = 'dead' and id < :before
        and (:agent is null or sender = :agent or recipient = :agent)
        and (:recipient is null or recipient = :recipient)
        and (:kind is null or :kind = iif(sender in ('operator', 'manager', 'system'), sender, 'peer'))
        and (:match is null or exists (
            select 1 from message_index where message_index match :match and message_index.rowid = messages.id
        ))
    order by id desc limit :limit
)
order by id desc;

-- name: list_thread_messages
-- The first message of a thread has its id, and no thread of its own.
select * from message_rows where id in (
    select id from messages
    where id in (select :thread union all select id from messages where thread = :thread) and id < :before
        and (:agent is null or sender = :agent or recipient = :agent)
        and (:recipient is null or recipient = :recipient)
        and (:state is null or state = :state)
        and (:kind is null or :kind = iif(sender in ('operator', 'manager', 'system'), sender, 'peer'))
        and (:match is null or exists (
            select 1 from message_index where message_index match :match and message_index.rowid = messages.id
        ))
    order by id desc limit :limit
)
order by id desc;
