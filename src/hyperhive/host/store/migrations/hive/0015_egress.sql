-- What the operator lets agents reach for a while, beside their configs.

create table egress_grants (
    id         integer primary key autoincrement,
    agent      text not null,
    host       text not null,
    port       integer not null,
    granted_at integer not null,
    until      integer not null,
    unique (agent, host, port)
) strict;

-- They are the agent's that was there then: never of another one with its name, nor of itself once it is revived.
create trigger destroyed_agents_have_no_egress_grants
after update of destroyed_at on agents when new.destroyed_at is not null
begin
    delete from egress_grants where agent = new.name;
end;

create trigger deleted_agents_have_no_egress_grants after delete on agents
begin
    delete from egress_grants where agent = old.name;
end;
