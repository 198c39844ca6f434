-- name: insert_webhook
insert into webhooks (url, events, bodies, secret, added_at, cursor)
values (:url, :events, :bodies, :secret, :at, (select coalesce(max(id), 0) from events))
returning *, 0 as dead, null as dead_at, '' as dead_reason;

-- name: list_webhooks
select
    webhooks.*,
    (select count(*) from webhook_dead where hook = webhooks.id) as dead,
    last.died_at as dead_at,
    coalesce(last.reason, '') as dead_reason
from webhooks
left join webhook_dead as last
    on last.hook = webhooks.id and last.event = (select max(event) from webhook_dead where hook = webhooks.id)
order by webhooks.id;

-- name: delete_webhook
delete from webhooks where id = :id returning *;

-- name: delete_webhook_dead
delete from webhook_dead where hook = :id;

-- name: note_webhook_taken
update webhooks set cursor = max(cursor, :cursor), ok_at = :at, error = '' where id = :id;

-- name: note_webhook_failed
update webhooks set error = :error where id = :id;

-- name: give_up_webhook_event
insert or ignore into webhook_dead (hook, event, died_at, reason) values (:id, :event, :at, :reason);

-- name: skip_webhook_to
update webhooks set cursor = max(cursor, :cursor) where id = :id;

-- name: trim_webhook_dead
delete from webhook_dead
where hook = :id and event not in (
    select event from webhook_dead where hook = :id order by event desc limit :keep
);
