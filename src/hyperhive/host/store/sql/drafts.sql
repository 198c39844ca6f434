-- name: insert_draft
insert into drafts (name, requested_by, created_at) values (:name, :requested_by, :at) returning *;

-- name: get_draft
select * from drafts where name = :name;

-- name: list_drafts
select * from drafts order by created_at, name;

-- name: count_drafts
select count(*) as drafts from drafts;

-- name: delete_draft
delete from drafts where name = :name returning *;
