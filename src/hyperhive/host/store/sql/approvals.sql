-- name: insert_approval
insert into approvals (kind, agent, status, requested_by, description, requested_at)
values (:kind, :agent, 'pending', :requested_by, :description, :at)
returning *;

-- name: get_approval
select * from approvals where id = :id;

-- name: find_open_approval
select * from approvals where agent = :agent and kind = :kind and status in ('pending', 'approved');

-- name: count_pending_approvals
select count(*) as pending from approvals where status = 'pending';

-- name: set_approval_status
update approvals set status = :status, resolved_at = :at, reason = :reason where id = :id returning *;

-- name: list_approvals
select * from approvals where :status is null or status = :status order by id desc limit 200;
