-- name: insert_approval
insert into approvals (
    kind, agent, status, requested_by, description, requested_at,
    commit_sha, base_sha, notes_sha, reverts_to, idempotency_key
)
values (
    :kind, :agent, 'pending', :requested_by, :description, :at,
    :commit, :base, :notes, :reverts_to, :key
)
returning *;

-- name: get_approval
select * from approvals where id = :id;

-- name: find_approval_by_key
select * from approvals where idempotency_key = :key;

-- name: list_open_approvals
-- Of one agent, what waits or is at work.
select * from approvals where agent = :agent and status in ('pending', 'approved', 'building') order by id;

-- name: list_pending_approvals
select * from approvals where status = 'pending' order by id;

-- name: list_approvals_at_work
-- What is being built comes first: it was begun.
select * from approvals where status in ('approved', 'building') order by status <> 'building', id;

-- name: count_pending_approvals
select count(*) as pending from approvals where status = 'pending';

-- name: set_approval_status
update approvals set status = :status, resolved_at = :at, reason = :reason where id = :id returning *;

-- name: set_approval_base
update approvals set base_sha = :base where id = :id returning *;

-- name: pin_approval
-- What a one-shot spawn comes to is known only when its repository is made.
update approvals set commit_sha = :commit where id = :id and commit_sha is null returning *;

-- name: list_approvals
select * from approvals where :status is null or status = :status order by id desc limit 200;

-- name: list_agent_approvals
select * from approvals where agent = :agent order by id;

-- name: list_untagged_approvals
select * from approvals where tagged <> status and id > :after order by id limit :limit;

-- name: set_tagged
update approvals set tagged = :status where id = :id returning *;
