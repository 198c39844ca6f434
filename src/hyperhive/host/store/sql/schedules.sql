-- name: list_schedules
-- The entries of what is deployed; of a config that is not read yet, or of a destroyed agent, none.
select schedules.* from schedules join agents on agents.name = schedules.agent
where agents.destroyed_at is null and agents.schedule_commit = agents.deployed_commit
    and (:agent is null or agent = :agent)
order by agent <> 'manager', agent, cron, message;

-- name: find_schedule
-- As above, one entry.
select schedules.* from schedules join agents on agents.name = schedules.agent
where agent = :agent and cron = :cron and message = :message
    and agents.destroyed_at is null and agents.schedule_commit = agents.deployed_commit;

-- name: list_unread_schedules
-- The agents with a config whose schedule is not in the table yet.
select name, deployed_commit from agents
where destroyed_at is null and deployed_commit is not null and deployed_commit is not schedule_commit;

-- name: list_schedule_entries
select * from schedules where agent = :agent;

-- name: insert_schedule
insert into schedules (agent, cron, message, done_to) values (:agent, :cron, :message, :done_to)
on conflict do nothing;

-- name: delete_schedule
delete from schedules where agent = :agent and cron = :cron and message = :message;

-- name: note_schedule_read
update agents set schedule_commit = :commit where name = :name;

-- name: advance_schedule
-- It only grows. `last_at` stays if nothing was sent.
update schedules set done_to = :done_to, last_at = coalesce(:last_at, last_at)
where agent = :agent and cron = :cron and message = :message and done_to < :done_to
returning *;

-- name: find_last_scheduled
-- By the key that each has: the names of keys up to :behind begin with :first, and end with the time.
select * from message_rows
where sender = 'system' and idempotency_key >= :first and idempotency_key < :behind
order by idempotency_key desc limit 1;

-- name: forget_schedules
delete from schedules where agent = :agent;
