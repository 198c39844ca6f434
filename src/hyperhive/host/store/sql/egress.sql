-- name: insert_egress_request
insert into egress_requests (agent, at, host, port, verdict, bytes_up, bytes_down, elapsed_ms, method, path)
values (:agent, :at, :host, :port, :verdict, :bytes_up, :bytes_down, :elapsed_ms, :method, :path);

-- name: trim_egress_requests
delete from egress_requests where agent = :agent and id not in (
    select id from egress_requests where agent = :agent order by id desc limit :keep
);

-- name: list_egress_requests
select * from egress_requests order by id desc limit :limit;

-- name: list_egress_requests_of
select * from egress_requests where agent = :agent order by id desc limit :limit;

-- name: delete_egress_requests
delete from egress_requests where agent = :agent;

-- name: insert_egress_grant
-- Granting it again sets its end anew.
insert into egress_grants (agent, host, port, granted_at, until) values (:agent, :host, :port, :at, :until)
on conflict (agent, host, port) do update set granted_at = excluded.granted_at, until = excluded.until
returning *;

-- name: count_egress_grants
select count(*) as grants from egress_grants where agent = :agent;

-- name: list_egress_grants
-- Those that hold at :at. One that begins after it was granted before the clock was set back: it does not hold.
select * from egress_grants
where (:agent = '' or agent = :agent) and granted_at <= :at + :slack_ms and until > :at
order by agent, until, id;

-- name: delete_egress_grant
delete from egress_grants where id = :id returning *;

-- name: count_ended_egress_grants
select count(*) as ended from egress_grants where until <= :at or granted_at > :at + :slack_ms;

-- name: delete_ended_egress_grants
delete from egress_grants where until <= :at or granted_at > :at + :slack_ms returning *;

-- name: next_egress_end
select min(until) as until from egress_grants;
