-- name: list_parks
select * from parks order by agent, kind;

-- name: list_parks_of
-- Those of the agent alone.
select * from parks where agent = :agent order by kind;

-- name: list_parks_over
-- What may hold for an agent: its own and the hive's.
select * from parks where agent in (:agent, '*');

-- name: find_park
select * from parks where agent = :agent and kind = :kind;

-- name: save_park
-- What is parked again has been parked since the first time.
insert into parks (agent, kind, since, until, reason)
values (:agent, :kind, :at, :until, :reason)
on conflict (agent, kind) do update set
    since = case when until is null or until > :at then since else :at end,
    until = excluded.until,
    reason = excluded.reason
returning *;

-- name: delete_park
delete from parks where agent = :agent and kind = :kind returning *;

-- name: delete_parks_of
delete from parks where agent = :agent returning *;

-- name: delete_ended_parks
delete from parks where until <= :at returning *;
