-- name: list_first_hive_agents
select key, here from first_hive where kind = 'agent';

-- name: find_first_hive
select here from first_hive where kind = :kind and key = :key;

-- name: insert_first_hive
-- An agent that was purged here may be taken over again.
insert into first_hive (kind, key, here) values (:kind, :key, :here)
on conflict (kind, key) do update set here = excluded.here;

-- name: insert_past_message
insert into messages (sender, recipient, sent_at, state, deliveries, settled_at)
values (:sender, :recipient, :sent_at, :state, :deliveries, :settled_at)
returning id;

-- name: insert_past_approval
-- One whose tags are not to be made is tagged already.
insert into approvals (
    kind, agent, status, requested_by, description, requested_at, resolved_at, reason, commit_sha, base_sha, tagged
)
values (
    :kind, :agent, :status, :requested_by, :description, :requested_at, :resolved_at, :reason, :commit, :base,
    case when :is_tagged then :status else '' end
)
returning id;

-- name: insert_past_question
insert into questions (
    kind, agent, asked, question, options, multi, status, asked_at, expires_at, answer, resolved_at
)
values (
    'question', :agent, :asked, :question, :options, :multi, :status, :asked_at, :expires_at, :answer, :resolved_at
)
returning id;
