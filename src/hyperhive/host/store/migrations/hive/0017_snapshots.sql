-- Snapshots of agents: the archive is <data>/snapshots/AGENT/ID.tar.gz. `taking` until it is there and whole.
create table snapshots (
    id               integer primary key autoincrement,
    agent            text not null,
    at               integer not null,
    state            text not null check (state in ('taking', 'ready')),
    note             text not null,
    commit_sha       text not null,
    session          text not null,
    turns            integer not null,
    with_credentials integer not null,
    -- made by the hive itself, before a restore: those go first
    automatic        integer not null,
    imported         integer not null,
    size_bytes       integer not null default 0,
    left_out         integer not null default 0,
    sha256           text not null default ''
) strict;

create index snapshots_by_agent on snapshots (agent, id);

-- Agents whose folders are being replaced: decided, and done to its end whatever the daemon dies of.
create table restores (
    agent    text primary key,
    snapshot integer not null,
    at       integer not null
) strict, without rowid;

-- While it is set the agent is handed no message, so that it can be copied or replaced between two turns.
alter table agents add column held integer not null default 0;
