-- name: insert_reminder
insert into reminders (agent, note, due_at, created_at, idempotency_key)
values (:agent, :note, :due_at, :at, :key)
returning *;

-- name: get_reminder
select * from reminders where id = :id;

-- name: find_reminder_by_key
select * from reminders where agent = :agent and idempotency_key = :key;

-- name: list_reminders
-- Those that wait: of one agent, or of all. One agent has far fewer.
select * from reminders where state = 'waiting' and (:agent is null or agent = :agent)
order by due_at, id
limit 1000;

-- name: count_waiting_reminders
select count(*) as waiting from reminders where agent = :agent and state = 'waiting';

-- name: count_waiting_reminders_by_agent
select agent, count(*) as waiting from reminders where state = 'waiting' group by agent;

-- name: list_due_reminders
-- Those of destroyed agents wait until these are revived or purged.
select reminders.* from reminders join agents on agents.name = reminders.agent
where state = 'waiting' and due_at <= :at and agents.destroyed_at is null
order by due_at, id
limit :limit;

-- name: find_first_reminder
select min(due_at) as due_at from reminders join agents on agents.name = reminders.agent
where state = 'waiting' and agents.destroyed_at is null;

-- name: end_reminder
update reminders set state = :state where id = :id and state = 'waiting' returning *;

-- name: prune_reminders
-- The last ones that ended stay, for a call that is repeated with their key.
delete from reminders
where agent = :agent and state <> 'waiting' and id <= (
    select id from reminders where agent = :agent and state <> 'waiting' order by id desc limit 1 offset :kept
);

-- name: forget_reminders
delete from reminders where agent = :agent;
