-- name: set_over_quota
update agents set over_quota = :reason where name = :name and over_quota <> :reason returning *;

-- name: allow_disk
update agents set allowed_bytes = :bytes, allowed_until = :until where name = :name returning *;

-- name: list_allowances
select name, allowed_bytes, allowed_until from agents where allowed_until is not null and destroyed_at is null;
