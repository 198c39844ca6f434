-- Agents that took more room on the disk than they may.

-- why the hive stopped it, until its folders are smaller or it may have more; empty: it may run
alter table agents add column over_quota text not null default '';
-- what its folders may hold until then, whatever its config says; null: that is all
alter table agents add column allowed_bytes integer;
alter table agents add column allowed_until integer;
