-- Shells in containers that people opened: who, when, how it ended, how much went through. Kept as a record.

create table terminals (
    id         text primary key,
    agent      text not null,
    -- of the container it was opened in
    generation integer not null,
    opened_by  text not null,
    opened_at  integer not null,
    columns    integer not null,
    rows       integer not null,
    bytes_in   integer not null default 0,
    bytes_out  integer not null default 0,
    ended_at   integer,
    ending     text,
    status     integer,
    check ((ended_at is null) = (ending is null))
) strict, without rowid;

create index terminals_of on terminals (agent, ended_at);
create index terminals_open on terminals (opened_at) where ended_at is null;
