-- Instants are whole milliseconds since the epoch, UTC. Ids are never used again (autoincrement).

create table agents (
    name         text primary key,
    -- the host's uid that owns the agent's folders and runs its container; null when the daemon is not root
    uid          integer unique,
    -- counts container starts: a harness of an earlier one is refused
    generation   integer not null default 0,
    desired      text not null check (desired in ('running', 'stopped')),
    failure      text not null default '',
    spawned_at   integer not null,
    destroyed_at integer
) strict;

create table messages (
    id              integer primary key autoincrement,
    sender          text not null,
    recipient       text not null,
    body            text not null,
    sent_at         integer not null,
    thread          integer,
    in_reply_to     integer,
    idempotency_key text,
    state           text not null default 'queued' check (state in ('queued', 'leased', 'acked', 'dead')),
    -- of the harness that holds the lease
    generation      integer,
    deliveries      integer not null default 0,
    failures        integer not null default 0,
    acked_at        integer,
    note            text
) strict;

create unique index messages_by_key on messages (sender, idempotency_key) where idempotency_key is not null;
-- only what waits: acked messages cost no index entry
create index messages_waiting on messages (recipient, id) where state in ('queued', 'leased');

create table approvals (
    id           integer primary key autoincrement,
    kind         text not null,
    agent        text not null,
    status       text not null,
    requested_by text not null,
    description  text not null,
    requested_at integer not null,
    resolved_at  integer,
    reason       text
) strict;

create table questions (
    id              integer primary key autoincrement,
    agent           text not null,
    question        text not null,
    options         text not null,
    multi           integer not null,
    status          text not null,
    asked_at        integer not null,
    expires_at      integer not null,
    answer          text,
    resolved_at     integer,
    idempotency_key text,
    unique (agent, idempotency_key)
) strict;

create table events (
    id    integer primary key autoincrement,
    at    integer not null,
    name  text not null,
    agent text,
    body  text not null
) strict;

-- Only hashes: who reads the file cannot log in with it.
create table login_tokens (
    token_hash text primary key,
    expires_at integer not null
) strict, without rowid;

create table sessions (
    token_hash text primary key,
    created_at integer not null,
    expires_at integer not null
) strict, without rowid;
