-- Why an agent runs no turns, what may be spent, what is to be sent later, and hibernation.

create table parks (
    -- '*' for the whole hive
    agent  text not null,
    kind   text not null check (kind in ('paused', 'budget', 'login', 'limit', 'failing')),
    since  integer not null,
    until  integer,
    reason text not null,
    primary key (agent, kind)
) strict, without rowid;

create table hive_budget (
    id             integer primary key check (id = 1),
    tokens_per_day integer,
    usd_per_day    real
) strict;

create table grants (
    id         integer primary key autoincrement,
    -- '*' for the whole hive
    agent      text not null,
    tokens     integer not null,
    usd        real not null,
    granted_at integer not null,
    expires_at integer not null
) strict;

create table reminders (
    id              integer primary key autoincrement,
    agent           text not null,
    note            text not null,
    due_at          integer not null,
    created_at      integer not null,
    state           text not null default 'waiting' check (state in ('waiting', 'sent', 'cancelled')),
    idempotency_key text,
    unique (agent, idempotency_key)
) strict;
create index reminders_waiting on reminders (due_at) where state = 'waiting';

-- up to which of its scheduled times an entry of an agent's config was dealt with
create table schedules (
    agent   text not null,
    cron    text not null,
    message text not null,
    done_to integer not null,
    -- the newest time that was sent
    last_at integer,
    primary key (agent, cron, message)
) strict, without rowid;

-- since when the deployed config is that, and of which commit `schedules` holds the entries
alter table agents add column deployed_at integer;
alter table agents add column schedule_commit text;

-- the container is stopped until a message comes
alter table agents add column hibernated integer not null default 0;
