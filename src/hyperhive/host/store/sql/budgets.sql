-- name: get_hive_budget
select * from hive_budget where id = 1;

-- name: save_hive_budget
insert into hive_budget (id, tokens_per_day, usd_per_day) values (1, :tokens, :usd)
on conflict (id) do update set tokens_per_day = excluded.tokens_per_day, usd_per_day = excluded.usd_per_day
returning *;

-- name: insert_grant
insert into grants (agent, tokens, usd, granted_at, expires_at)
values (:agent, :tokens, :usd, :at, :expires_at)
returning *;

-- name: list_grants
select * from grants where expires_at > :at order by id;

-- name: list_budget_parks
select agent from parks where kind = 'budget';

-- name: list_spending
-- By agent, minute and model, the oldest first. Rows of earlier versions have no charge: it is what was reported.
select
    agent,
    at / 60000 as minute,
    model,
    micro_usd is null as unpriced,
    count(*) as requests,
    sum(coalesce(charged_tokens, input_tokens + output_tokens + cache_creation_tokens)) as tokens,
    coalesce(sum(micro_usd), 0) as micro_usd,
    sum(input_tokens) as input,
    sum(output_tokens) as output,
    sum(cache_creation_tokens) as cache_write,
    sum(cache_read_tokens) as cache_read
from model_requests
where at >= :since and (charged_tokens is not null or (path = '/v1/messages' and status between 200 and 299))
group by agent, minute, model, unpriced
order by minute;
