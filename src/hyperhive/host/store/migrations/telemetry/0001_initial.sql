-- Copies: losing the last second of this file loses nothing that matters.

create table transcripts (
    agent text not null,
    seq   integer not null,
    at    text not null,
    kind  text not null,
    body  text not null,
    primary key (agent, seq)
) strict, without rowid;

create table model_requests (
    id                    integer primary key autoincrement,
    agent                 text not null,
    at                    integer not null,
    path                  text not null,
    model                 text not null,
    status                integer not null,
    first_byte_ms         integer not null,
    total_ms              integer not null,
    input_tokens          integer not null,
    output_tokens         integer not null,
    cache_creation_tokens integer not null,
    cache_read_tokens     integer not null
) strict;

create index model_requests_by_agent on model_requests (agent, at);
