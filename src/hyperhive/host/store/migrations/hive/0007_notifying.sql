-- What the operator was told by notifiers, so that a restart tells nothing twice and forgets nothing.

create table notify_sightings (
    id      integer primary key autoincrement,
    -- of the need; one that came anew has another row
    key     text not null unique,
    since   integer not null,
    seen_at integer not null,
    gone_at integer
) strict;

-- A channel is known by the SHA-256 of its URL: the URL is a secret.
create table notify_told (
    channel     text not null,
    sighting    integer not null,
    told_at     integer not null,
    reminded_at integer,
    primary key (channel, sighting)
) strict, without rowid;

create table notify_channels (
    channel      text primary key,
    last_sent_at integer,
    failures     integer not null default 0,
    retry_at     integer,
    fault        text not null default '',
    fault_at     integer,
    ok_at        integer
) strict, without rowid;

-- messages that did not wait for the cooldown
create table notify_rushes (
    channel text not null,
    at      integer not null
) strict;

-- What is being sent: after a crash the receipt of that name says whether it was.
create table notify_sends (
    channel   text primary key,
    receipt   text not null,
    at        integer not null,
    rushed    integer not null,
    -- ids of sightings, JSON
    told      text not null,
    reminded  text not null
) strict, without rowid;
