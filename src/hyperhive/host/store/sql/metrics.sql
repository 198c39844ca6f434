-- name: newest_model_request_id
select coalesce(max(id), 0) as id from model_requests;
