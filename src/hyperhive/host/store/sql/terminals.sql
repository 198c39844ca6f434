-- name: insert_terminal
insert into terminals (id, agent, generation, opened_by, opened_at, columns, rows)
values (:id, :agent, :generation, :opened_by, :at, :columns, :rows)
returning *;

-- name: list_open_terminals
select * from terminals where ended_at is null order by opened_at, id;

-- name: list_ended_terminals
-- The last of an agent, the newest first; those of an earlier agent of that name were another's.
select * from terminals
where agent = :agent and ended_at is not null
    and opened_at >= (select spawned_at from agents where name = :agent)
order by ended_at desc, id limit :limit;

-- name: find_terminal
-- Of the agent that has the name now.
select * from terminals
where id = :id and agent = :agent and opened_at >= (select spawned_at from agents where name = :agent);

-- name: list_orphaned_terminals
-- Open by the records, of agents that are no more: the daemon died before it wrote down their end.
select * from terminals
where ended_at is null
    and not exists (select 1 from agents where agents.name = terminals.agent and agents.destroyed_at is null);

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

-- name: delete_terminals
-- What ended before :cutoff, the oldest first.
delete from terminals
where id in (select id from terminals where ended_at <= :cutoff order by ended_at, id limit :limit)
returning id;
