-- Configs as commits: what is deployed, what is proposed, what is drafted.

alter table agents add column deployed_commit text;
-- the commit that the present generation was started with
alter table agents add column started_commit text;
-- whether that was a try of what is not deployed: it must not go on running by itself
alter table agents add column trying integer not null default 0;
alter table agents add column config_error text not null default '';

alter table approvals add column commit_sha text;
alter table approvals add column base_sha text;
alter table approvals add column notes_sha text;
alter table approvals add column reverts_to integer;
alter table approvals add column idempotency_key text;
-- the status that the applied repo's tags tell already
alter table approvals add column tagged text not null default '';
create unique index approvals_by_key on approvals (idempotency_key) where idempotency_key is not null;
create index approvals_untagged on approvals (id) where tagged <> status;

create table drafts (
    name         text primary key,
    requested_by text not null,
    created_at   integer not null
) strict;

alter table questions add column kind text not null default 'question';
