-- name: insert_egress_request
insert into egress_requests (agent, at, host, port, verdict, bytes_up, bytes_down, elapsed_ms)
values (:agent, :at, :host, :port, :verdict, :bytes_up, :bytes_down, :elapsed_ms);

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
