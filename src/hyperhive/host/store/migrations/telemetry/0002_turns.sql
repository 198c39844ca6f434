-- What a request cost, and what went through the egress proxy.

-- work tokens charged to the budget: as reported, or estimated where an answer broke off; null in old rows
alter table model_requests add column charged_tokens integer;
-- null: the price table does not know the model
alter table model_requests add column micro_usd integer;
create index model_requests_by_time on model_requests (at);

create table egress_requests (
    id         integer primary key autoincrement,
    agent      text not null,
    at         integer not null,
    host       text not null,
    port       integer not null,
    verdict    text not null,
    bytes_up   integer not null,
    bytes_down integer not null,
    elapsed_ms integer not null
) strict;
create index egress_requests_by_agent on egress_requests (agent, at);
