-- name: insert_event
insert into events (at, name, agent, body) values (:at, :name, :agent, :body) returning id;

-- name: list_events_after
select * from events where id > :after order by id limit :limit;

-- name: newest_event_id
select coalesce(max(id), 0) as id from events;
