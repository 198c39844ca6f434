-- Webhooks: addresses of the operator's that are told of events. The queue of each is what stands in `events` after its cursor.
create table webhooks (
    id         integer primary key autoincrement,
    url        text not null,
    -- a JSON list of names of events, or of all that begin alike, such as approval.*; empty: all
    events     text not null,
    bodies     integer not null,
    -- what its signatures are made with: it has to be known, so it is no hash
    secret     text not null,
    added_at   integer not null,
    -- the newest event that was taken or given up
    cursor     integer not null,
    ok_at      integer,
    -- why the last attempt failed; empty: it was taken
    error      text not null default ''
) strict;

-- What was given up.
create table webhook_dead (
    hook    integer not null,
    event   integer not null,
    died_at integer not null,
    reason  text not null,
    primary key (hook, event)
) strict, without rowid;
