-- name: list_earlier_proposals
-- What was proposed and not applied, the newest first: a denied or failed one is of the past once another one is deployed.
select * from approvals
where agent = :agent and id < :id and kind <> 'revert' and commit_sha is not null and (
    status = 'pending'
    or (status in ('denied', 'failed') and id > (
        select coalesce(max(id), 0) from approvals where agent = :agent and id < :id and status = 'deployed'
    ))
)
order by id desc limit :limit;

-- name: list_other_proposals
-- What waits for the operator beside :id.
select * from approvals
where agent = :agent and id <> :id and status = 'pending' and commit_sha is not null
order by id;

-- name: list_config_history
select * from approvals
where agent = :agent and status in ('deployed', 'failed', 'denied') and commit_sha is not null
order by id desc limit 200;
