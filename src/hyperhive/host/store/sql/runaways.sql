-- name: insert_runaway
insert into runaways (one, other, since) values (:one, :other, :at) on conflict do nothing returning since;

-- name: delete_runaway
delete from runaways where one = :one and other = :other returning since;

-- name: forget_runaways
delete from runaways where one = :agent or other = :agent;

-- name: list_runaways
select * from runaways order by since;
