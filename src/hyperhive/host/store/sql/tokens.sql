-- name: insert_api_token
insert into api_tokens (name, token_hash, scopes, created_at, expires_at)
values (:name, :token_hash, :scopes, :at, :expires_at)
returning *;

-- name: find_api_token
select * from api_tokens where name = :name;

-- name: list_api_tokens
select * from api_tokens order by id;

-- name: count_api_tokens
select count(*) as tokens from api_tokens;

-- name: set_api_token_used
update api_tokens set last_used_at = :at where id = :id;

-- name: delete_api_token
delete from api_tokens where name = :name returning *;
