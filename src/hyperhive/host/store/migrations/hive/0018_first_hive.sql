-- What was taken over from data folders of the first hive, so that nothing is taken over twice.
create table first_hive (
    kind text not null check (kind in ('agent', 'message', 'approval', 'question')),
    -- of an agent its name there; of a row a digest of what never changes in it
    key  text not null,
    -- what it became here: a name or an id
    here text not null,
    primary key (kind, key)
) strict, without rowid;
