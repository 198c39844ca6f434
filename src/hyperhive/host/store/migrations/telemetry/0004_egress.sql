-- Of plain http requests to the egress proxy; both empty for a tunnel.

alter table egress_requests add column method text not null default '';
-- decoded, and without what follows a ?
alter table egress_requests add column path text not null default '';
