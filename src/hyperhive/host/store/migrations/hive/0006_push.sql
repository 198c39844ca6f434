-- Browsers that are told by web push what needs the operator, and what each has been told that still stands there.

create table devices (
    id       integer primary key autoincrement,
    -- the address at its push service, which tells it from all others
    endpoint text not null unique,
    -- what a push is encrypted for
    point    blob not null,
    auth     blob not null,
    name     text not null,
    added_at integer not null,
    muted    integer not null default 0 check (muted in (0, 1)),
    -- when it last took a push, and why it did not take the newest one; '' when it did
    sent_at  integer,
    error    text not null default ''
) strict;

create table pushed (
    device integer not null,
    -- of a need
    key    text not null,
    at     integer not null,
    primary key (device, key)
) strict, without rowid;
