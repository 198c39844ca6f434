-- name: save_stats_minute
insert into stats_minutes (at, data) values (:at, :data)
on conflict (at) do update set data = excluded.data;

-- name: list_stats_minutes
select * from stats_minutes order by at;

-- name: delete_stats_minutes
delete from stats_minutes where at >= :since and at < :until;

-- name: find_stats_block
select data from stats_blocks where agent = :agent and step_s = :step_s and at = :at;

-- name: save_stats_block
insert into stats_blocks (agent, step_s, at, data) values (:agent, :step_s, :at, :data)
on conflict (agent, step_s, at) do update set data = excluded.data;

-- name: list_stats_blocks
select at, data from stats_blocks where agent = :agent and step_s = :step_s and at >= :since and at < :until order by at;

-- name: find_newest_stats_block
select at, data from stats_blocks where agent = :agent and step_s = :step_s order by at desc limit 1;

-- name: list_stats_agents
select distinct agent from stats_blocks;

-- name: trim_stats_blocks
-- A clock that jumps ahead must not take everything at once: what is deleted is at most :step_limit_s long.
delete from stats_blocks
where agent = :agent and step_s = :step_s and at < :before and at < :step_limit_s + (
    select min(at) from stats_blocks where agent = :agent and step_s = :step_s
);

-- name: delete_stats_blocks
delete from stats_blocks where agent = :agent;

-- name: get_stats_cursor
select request_id from stats_cursor;

-- name: set_stats_cursor
update stats_cursor set request_id = :request_id;

-- name: sum_model_requests
-- By agent, what came after :after.
select
    agent,
    max(id) as newest,
    count(*) as model_requests,
    sum(status < 200 or status >= 400) as model_failures,
    sum(micro_usd is null and coalesce(charged_tokens, 0) > 0) as unpriced_requests,
    sum(coalesce(charged_tokens, 0)) as work_tokens,
    sum(input_tokens) as input_tokens,
    sum(output_tokens) as output_tokens,
    sum(cache_creation_tokens) as cache_write_tokens,
    sum(cache_read_tokens) as cache_read_tokens,
    sum(coalesce(micro_usd, 0)) as micro_usd
from model_requests where id > :after group by agent;

-- name: sum_usage
-- By agent and model, what was asked of the model service within a span. What had no tokens has no model either: the
-- name is then an agent's word alone.
select
    agent,
    case when coalesce(charged_tokens, 0) > 0 or output_tokens > 0 then model else '' end as used_model,
    count(*) as requests,
    sum(status < 200 or status >= 400) as failures,
    sum(micro_usd is null and coalesce(charged_tokens, 0) > 0) as unpriced,
    sum(coalesce(charged_tokens, 0)) as work,
    sum(input_tokens) as input,
    sum(output_tokens) as output,
    sum(cache_creation_tokens) as cache_write,
    sum(cache_read_tokens) as cache_read,
    sum(coalesce(micro_usd, 0)) as micro_usd
from model_requests where at >= :since and at < :until group by agent, used_model;

-- name: sum_usage_of
-- The same of one agent.
select
    agent,
    case when coalesce(charged_tokens, 0) > 0 or output_tokens > 0 then model else '' end as used_model,
    count(*) as requests,
    sum(status < 200 or status >= 400) as failures,
    sum(micro_usd is null and coalesce(charged_tokens, 0) > 0) as unpriced,
    sum(coalesce(charged_tokens, 0)) as work,
    sum(input_tokens) as input,
    sum(output_tokens) as output,
    sum(cache_creation_tokens) as cache_write,
    sum(cache_read_tokens) as cache_read,
    sum(coalesce(micro_usd, 0)) as micro_usd
from model_requests where agent = :agent and at >= :since and at < :until group by used_model;

-- name: count_all_open_questions
-- Those to the operator.
select count(*) as open from questions where status = 'open' and asked = 'operator';

-- name: list_agent_names
-- Also those that are destroyed, as long as their state is kept.
select name from agents;
