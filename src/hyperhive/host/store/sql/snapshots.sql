-- name: insert_snapshot
insert into snapshots (agent, at, state, note, commit_sha, session, turns, with_credentials, automatic, imported)
values (:agent, :at, 'taking', :note, '', '', 0, :with_credentials, :automatic, :imported)
returning *;

-- name: finish_snapshot
update snapshots
set state = 'ready', at = :at, note = :note, commit_sha = :commit, session = :session, turns = :turns,
    with_credentials = :with_credentials, size_bytes = :size_bytes, left_out = :left_out, sha256 = :sha256
where id = :id and state = 'taking'
returning *;

-- name: get_snapshot
select * from snapshots where id = :id;

-- name: list_snapshots
-- The newest first.
select * from snapshots where :agent is null or agent = :agent order by id desc;

-- name: delete_snapshot
delete from snapshots where id = :id returning *;

-- name: delete_unfinished_snapshots
delete from snapshots where state = 'taking' returning *;

-- name: insert_restore
insert into restores (agent, snapshot, at) values (:agent, :snapshot, :at);

-- name: list_restores
select * from restores order by at;

-- name: delete_restore
delete from restores where agent = :agent;

-- name: set_held
update agents set held = :held where name = :name and held <> :held returning *;

-- name: release_all_held
update agents set held = 0 where held returning name;

-- name: list_unsettled_ids
-- What waits for an agent, or is leased to it.
select id from messages where recipient = :agent and state in ('queued', 'leased') order by id limit :limit;

-- name: replay_messages
-- What was handled since a snapshot; and what a purge of the agent made dead.
update messages set state = 'queued', settled_at = null, failures = 0, expires_at = null, note = :reason
where recipient = :agent
    and (state = 'acked' or (state = 'dead' and note = :buried))
    and (id > :newest or id in (select value from json_each(:waiting)))
returning id;

-- name: find_last_turn
-- In the telemetry, with how many there were.
select body, (select count(*) from transcripts where agent = :agent and kind = 'turn.ended') as turns
from transcripts where agent = :agent and kind = 'turn.ended' order by seq desc limit 1;
