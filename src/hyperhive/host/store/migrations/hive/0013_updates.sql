-- Agents that are to be built anew: `updating` from the wish until their container is started.
alter table agents add column updating integer not null default 0;
-- the approval whose config failed last, which an update tries again; null: none, or it cannot be told
alter table agents add column failed_approval integer;
