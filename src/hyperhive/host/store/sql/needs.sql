-- name: list_needed_questions
-- What the operator is asked, not what agents ask one another.
select * from questions where status = 'open' and asked = 'operator' order by id;

-- name: list_dead_letters
-- What was given up and that an agent could still be given: what died before its recipient was spawned was not for it.
select message_rows.*, coalesce(message_rows.settled_at, message_rows.sent_at) as died_at
from message_rows
join agents on agents.name = message_rows.recipient
where message_rows.state = 'dead'
    and agents.destroyed_at is null
    and agents.spawned_at <= coalesce(message_rows.settled_at, message_rows.sent_at)
    and not exists (
        select 1 from dismissed
        where dismissed.message_id = message_rows.id and dismissed.died_at is message_rows.settled_at
    )
order by message_rows.id
limit :limit;

-- name: count_dead_letters
-- As list_dead_letters.
select count(*) as dead
from messages
join agents on agents.name = messages.recipient
where messages.state = 'dead'
    and agents.destroyed_at is null
    and agents.spawned_at <= coalesce(messages.settled_at, messages.sent_at)
    and not exists (
        select 1 from dismissed
        where dismissed.message_id = messages.id and dismissed.died_at is messages.settled_at
    );

-- name: find_letter
select id, state, recipient, settled_at from messages where id = :id;

-- name: dismiss_letter
insert into dismissed (message_id, died_at)
select id, settled_at from messages where id = :id and state = 'dead'
on conflict (message_id) do update set died_at = excluded.died_at where died_at is not excluded.died_at
returning message_id;

-- name: list_troubles
-- When each agent last crashed or could not be started, among the newest :reach events.
select agent, max(at) as at from events
where id > (select coalesce(max(id), 0) from events) - :reach
    and agent is not null and name in ('agent.crashed', 'agent.failed', 'agent.over_quota')
group by agent;
