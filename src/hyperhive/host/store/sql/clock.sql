-- name: move_message_deadlines
-- Of all that may yet be handed out.
update messages set expires_at = expires_at + :by_ms where state in ('queued', 'leased') and expires_at is not null;

-- name: move_question_deadlines
update questions set expires_at = expires_at + :by_ms where status = 'open';

-- name: move_egress_grants
update egress_grants set granted_at = granted_at + :by_ms, until = until + :by_ms;
