-- name: insert_question
insert into questions (kind, agent, question, options, multi, status, asked_at, expires_at, idempotency_key)
values (:kind, :agent, :question, :options, :multi, 'open', :at, :expires_at, :key)
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
select * from questions where :status is null or status = :status order by id desc limit 200;

-- name: count_open_questions
select count(*) as open from questions where agent = :agent and kind = :kind and status = 'open';

-- name: list_open_questions
select * from questions where agent = :agent and kind = :kind and status = 'open' order by id;

-- name: list_expired_questions
select * from questions where status = 'open' and expires_at <= :at order by id;
