-- name: list_sightings
select * from notify_sightings;

-- name: insert_sighting
insert into notify_sightings (key, since, seen_at) values (:key, :since, :seen_at);

-- name: update_sighting
update notify_sightings set since = :since, seen_at = :seen_at, gone_at = :gone_at where id = :id;

-- name: delete_sighting
delete from notify_sightings where key = :key;

-- name: prune_told
-- Of a need that is gone nothing needs to be known.
delete from notify_told where sighting not in (select id from notify_sightings);

-- name: list_told
select * from notify_told;

-- name: note_told
insert into notify_told (channel, sighting, told_at)
select :channel, id, :at from notify_sightings where id = :sighting
on conflict do nothing;

-- name: note_reminded
update notify_told set reminded_at = :at where channel = :channel and sighting = :sighting;

-- name: list_notify_channels
select * from notify_channels;

-- name: prune_notify_channels
delete from notify_channels
where channel not in (select value from json_each(:channels)) and channel not in (select channel from notify_told);

-- name: note_notify_sent
insert into notify_channels (channel, last_sent_at, ok_at) values (:channel, :at, :at)
on conflict (channel) do update
set last_sent_at = :at, ok_at = :at, failures = 0, retry_at = null, fault = '', fault_at = null;

-- name: note_notify_works
-- By a test: what waits for the next try waits no longer.
insert into notify_channels (channel, ok_at) values (:channel, :at)
on conflict (channel) do update set ok_at = :at, failures = 0, retry_at = null, fault = '', fault_at = null;

-- name: note_notify_fault
insert into notify_channels (channel, fault, fault_at, failures, retry_at)
values (:channel, :fault, :at, :failures, :retry_at)
on conflict (channel) do update set fault = :fault, fault_at = :at, failures = :failures, retry_at = :retry_at;

-- name: note_notify_broken
-- By a test: when the next try comes stays as it is.
insert into notify_channels (channel, fault, fault_at) values (:channel, :fault, :at)
on conflict (channel) do update set fault = :fault, fault_at = :at;

-- name: list_rushes
select * from notify_rushes;

-- name: insert_rush
insert into notify_rushes (channel, at) values (:channel, :at);

-- name: prune_rushes
delete from notify_rushes where at < :before;

-- name: list_notify_sends
select * from notify_sends;

-- name: begin_notify_send
insert into notify_sends (channel, receipt, at, rushed, told, reminded)
values (:channel, :receipt, :at, :rushed, :told, :reminded);

-- name: end_notify_send
delete from notify_sends where channel = :channel and receipt = :receipt returning *;

-- name: find_notify_future
-- Whether the clock was set back.
select 1 where exists (select 1 from notify_told where told_at > :at or reminded_at > :at)
    or exists (select 1 from notify_channels where last_sent_at > :at)
    or exists (select 1 from notify_rushes where at > :at);

-- name: settle_told
update notify_told set told_at = min(told_at, :at), reminded_at = min(reminded_at, :at)
where told_at > :at or reminded_at > :at;

-- name: settle_notify_channels
update notify_channels set last_sent_at = :at where last_sent_at > :at;

-- name: settle_rushes
update notify_rushes set at = :at where at > :at;
