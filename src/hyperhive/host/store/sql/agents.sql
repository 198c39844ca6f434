-- name: insert_agent
insert into agents (name, uid, desired, spawned_at)
values (:name, :uid, 'running', :at)
returning *;

-- name: get_highest_uid
-- Also of destroyed agents, whose folders still have theirs.
select max(uid) as uid from agents;

-- name: set_uid
update agents set uid = :uid where name = :name returning *;

-- name: get_agent
select * from agents where name = :name;

-- name: list_agents
select * from agents where destroyed_at is null order by name <> 'manager', name;

-- name: list_unrested_agents
-- At rest are those that need not run and do not, by :at_rest, a JSON list of names.
select * from agents
where destroyed_at is null
    and ((desired = 'running' and not hibernated) or name not in (select value from json_each(:at_rest)))
order by name <> 'manager', name;

-- name: list_destroyed_agents
select * from agents where destroyed_at is not null order by name;

-- name: set_desired
-- What is stopped does not hibernate: its next start is one.
update agents
set desired = :desired, failure = '', hibernated = case when :desired = 'stopped' then 0 else hibernated end
where name = :name and destroyed_at is null
returning *;

-- name: begin_generation
update agents set generation = generation + 1, failure = '', started_commit = :commit, trying = :trying
where name = :name
returning *;

-- name: set_failure
update agents set failure = :failure where name = :name returning *;

-- name: mark_destroyed
update agents set destroyed_at = :at, desired = 'stopped', hibernated = 0 where name = :name returning *;

-- name: delete_agent
delete from agents where name = :name;

-- name: revive_agent
update agents set destroyed_at = null, desired = 'running', failure = ''
where name = :name and destroyed_at is not null
returning *;

-- name: set_deployed_commit
update agents
set deployed_commit = :commit, deployed_at = :at, trying = 0, config_error = '', failed_approval = null, failure = ''
where name = :name
returning *;

-- name: set_config_error
update agents set config_error = :error, failed_approval = :approval where name = :name returning *;

-- name: set_hibernated
update agents set hibernated = :hibernated where name = :name and hibernated <> :hibernated returning *;

-- name: set_updating
update agents set updating = :updating where name = :name and updating <> :updating returning *;

-- name: list_updating_agents
select * from agents where updating and destroyed_at is null order by name <> 'manager', name;

-- name: count_unsettled
-- What waits, and what a harness has leased.
select count(*) as unsettled from messages where recipient = :agent and state in ('queued', 'leased');
