-- API tokens: what a program shows instead of an operator's session. Only hashes: who reads the file cannot use one.
create table api_tokens (
    id           integer primary key autoincrement,
    name         text not null unique,
    token_hash   text not null unique,
    -- a JSON list of read, send, decide, admin
    scopes       text not null,
    created_at   integer not null,
    -- null: until it is revoked
    expires_at   integer,
    -- to the hour; null: never
    last_used_at integer
) strict;
