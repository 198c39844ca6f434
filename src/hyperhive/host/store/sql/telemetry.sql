-- name: insert_transcript_event
-- What a harness replays after a reconnect may be here already.
insert or ignore into transcripts (agent, seq, at, kind, body) values (:agent, :seq, :at, :kind, :body);

-- name: newest_transcript_seq
select coalesce(max(seq), 0) as seq from transcripts where agent = :agent;

-- name: list_transcript_before
select * from transcripts where agent = :agent and seq < :before order by seq desc limit :limit;

-- name: list_transcript_after
select * from transcripts where agent = :agent and seq > :after order by seq limit :limit;

-- name: trim_transcript
delete from transcripts where agent = :agent and seq <= :through returning length(cast(body as blob)) as bytes;

-- name: delete_transcript
delete from transcripts where agent = :agent;

-- name: add_transcript_size
-- What was there before this was counted can only make it less than nothing.
insert into transcript_sizes (agent, bytes) values (:agent, max(0, :bytes))
on conflict (agent) do update set bytes = max(0, bytes + :bytes)
returning bytes;

-- name: find_transcript_size
select bytes from transcript_sizes where agent = :agent;

-- name: delete_transcript_size
delete from transcript_sizes where agent = :agent;

-- name: list_oldest_transcript
select seq, length(cast(body as blob)) as bytes from transcripts where agent = :agent order by seq limit :limit;

-- name: turn_summaries
select agent, count(*) as turns, max(seq) as last_seq from transcripts where kind = 'turn.ended' group by agent;

-- name: get_transcript_event
select * from transcripts where agent = :agent and seq = :seq;

-- name: insert_model_request
insert into model_requests (
    agent, at, path, model, status, first_byte_ms, total_ms,
    input_tokens, output_tokens, cache_creation_tokens, cache_read_tokens, charged_tokens, micro_usd
) values (
    :agent, :at, :path, :model, :status, :first_byte_ms, :total_ms,
    :input_tokens, :output_tokens, :cache_creation_tokens, :cache_read_tokens, :charged_tokens, :micro_usd
);
