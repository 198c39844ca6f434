-- name: insert_question
insert into questions (kind, agent, asked, question, options, multi, status, asked_at, expires_at, idempotency_key)
values (:kind, :agent, :asked, :question, :options, :multi, 'open', :at, :expires_at, :key)
returning *;

-- name: find_question_by_key
select * from questions where agent = :agent and idempotency_key = :key;

-- name: get_question
select * from questions where id = :id;

-- name: resolve_question
update questions set status = :status, answer = :answer, resolved_at = :at
where id = :id and status = 'open'
returning *;

-- name: list_questions
-- The operator's, or those between agents, too.
select * from questions
where (:status is null or status = :status) and (:everyone or asked = 'operator')
order by id desc limit 200;

-- name: count_open_questions
select count(*) as open from questions where agent = :agent and kind = :kind and status = 'open';

-- name: count_open_between
-- Between agents: how many an agent asks, and how many another one is asked.
select coalesce(sum(agent = :agent), 0) as asks, coalesce(sum(asked = :asked), 0) as is_asked
from questions where status = 'open' and asked <> 'operator';

-- name: count_open_to_operator
select count(*) as open from questions
where agent = :agent and kind = :kind and asked = 'operator' and status = 'open';

-- name: list_open_questions
select * from questions where agent = :agent and kind = :kind and status = 'open' order by id;

-- name: list_open_between
-- Between an agent and any other.
select * from questions
where status = 'open' and asked <> 'operator' and :agent in (agent, asked)
order by id;

-- name: list_expired_questions
select * from questions where status = 'open' and expires_at <= :at order by id;

-- name: set_question_message
update questions set message = :message where id = :id;

-- name: find_question_message
select message from questions where id = :id;

-- name: mark_asking
-- The message goes with its question: who has not been handed it by then need not be.
update messages set question = :question, expires_at = :expires_at where id = :id;

-- name: mark_answering
update messages set answer_to = :question where id = :id;

-- name: withdraw_message
-- Of what nobody has been handed.
update messages set state = 'expired', settled_at = :at, note = :note
where id = :id and state = 'queued'
returning id;

-- name: find_message_state
select state, deliveries from messages where id = :id;
