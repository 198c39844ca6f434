-- How much is kept of each agent's transcript, counted from now on.

create table transcript_sizes (
    agent text primary key,
    bytes integer not null
) strict, without rowid;
