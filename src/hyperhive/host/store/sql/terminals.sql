-- name: insert_terminal
insert into terminals (id, agent, generation, opened_by, opened_at, columns, rows)
values (:id, :agent, :generation, :opened_by, :at, :columns, :rows)
returning *;

-- name: list_open_terminals
select * from terminals where ended_at is null order by opened_at, id;

-- name: list_ended_terminals
-- The last of an agent, the newest first.
select * from terminals where agent = :agent and ended_at is not null
order by ended_at desc, id limit :limit;

-- name: find_terminal
select * from terminals where id = :id and agent = :agent;

-- name: count_terminal
-- What went through it so far, and its size.
update terminals set bytes_in = :bytes_in, bytes_out = :bytes_out, columns = :columns, rows = :rows
where id = :id and ended_at is null
returning id;

-- name: end_terminal
-- Once: what has ended stays as it was.
update terminals set
    ended_at = :at, ending = :ending, status = :status,
    bytes_in = :bytes_in, bytes_out = :bytes_out, columns = :columns, rows = :rows
where id = :id and ended_at is null
returning *;
