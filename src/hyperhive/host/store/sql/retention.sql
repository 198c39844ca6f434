-- name: scan_old_messages
-- Which of the next ones are to go: settled before :cutoff, but for dead ones that somebody may still want delivered.
select messages.id, messages.sent_at,
    coalesce(messages.settled_at, messages.sent_at) <= :cutoff and (
        messages.state in ('acked', 'expired')
        or messages.state = 'dead' and (
            exists (
                select 1 from dismissed
                where dismissed.message_id = messages.id and dismissed.died_at is messages.settled_at
            )
            or not exists (
                select 1 from agents
                where agents.name = messages.recipient
                    and agents.spawned_at <= coalesce(messages.settled_at, messages.sent_at)
            )
        )
    ) as is_over
from messages
where messages.id > :after
order by messages.id limit :limit;

-- name: delete_messages
-- Once more as scan_old_messages: what was over may have been queued again.
delete from messages
where id in (select value from json_each(:ids))
    and coalesce(messages.settled_at, messages.sent_at) <= :cutoff and (
        messages.state in ('acked', 'expired')
        or messages.state = 'dead' and (
            exists (
                select 1 from dismissed
                where dismissed.message_id = messages.id and dismissed.died_at is messages.settled_at
            )
            or not exists (
                select 1 from agents
                where agents.name = messages.recipient
                    and agents.spawned_at <= coalesce(messages.settled_at, messages.sent_at)
            )
        )
    )
returning id, sender, recipient;

-- name: delete_bodies
delete from bodies where id in (select value from json_each(:ids)) returning id, body;

-- name: delete_dismissals
delete from dismissed where message_id in (select value from json_each(:ids));
