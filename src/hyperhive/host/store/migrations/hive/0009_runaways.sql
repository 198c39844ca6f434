-- Pairs of agents whose messages to each other are held back until the operator lets them go on. `one` < `other`.

create table runaways (
    one        text not null,
    other      text not null,
    since      integer not null,
    primary key (one, other)
) strict, without rowid;
