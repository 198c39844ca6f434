-- name: insert_login_token
insert into login_tokens (token_hash, expires_at) values (:token_hash, :expires_at);

-- name: take_login_token
delete from login_tokens where token_hash = :token_hash and expires_at > :at returning *;

-- name: insert_session
insert into sessions (token_hash, created_at, expires_at) values (:token_hash, :at, :expires_at);

-- name: find_session
select * from sessions where token_hash = :token_hash and expires_at > :at;

-- name: delete_session
delete from sessions where token_hash = :token_hash;

-- name: delete_expired_sessions
delete from sessions where expires_at <= :at;

-- name: delete_expired_login_tokens
delete from login_tokens where expires_at <= :at;
