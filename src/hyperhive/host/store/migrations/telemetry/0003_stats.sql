-- Stats: what agents did and what it cost, in slots of time (see host/stats).

-- The minutes of half hours that are not over: one row holds all agents.
create table stats_minutes (
    at   integer primary key,
    data blob not null
) strict;

-- Blocks of slots that follow one another, of one agent ('*': the hive), in three resolutions.
create table stats_blocks (
    id     integer primary key,
    agent  text not null,
    step_s integer not null,
    at     integer not null,
    data   blob not null,
    unique (agent, step_s, at)
) strict;

-- Up to which model request all are counted.
create table stats_cursor (
    id         integer primary key check (id = 1),
    request_id integer not null
) strict;
insert into stats_cursor select 1, coalesce(max(id), 0) from model_requests;
