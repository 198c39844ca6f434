-- name: get_audit_head
select seq, hash from audit order by seq desc limit 1;

-- name: insert_audit
insert into audit (seq, at, actor, name, agent, body, hash)
values (:seq, :at, :actor, :name, :agent, :body, :hash);

-- name: list_audit
-- A bounded piece of it, the newest first: looking through all of it would keep other readers waiting.
select seq, at, actor, name, agent, body, hash
from audit
where seq < :before
    and seq >= :from
    and at >= :since
    and (:agent = '' or agent = :agent or actor = 'agent ' || :agent)
    and (:actor = '' or actor = :actor or substr(actor, 1, length(:actor) + 1) = :actor || ' ')
    and (:name = '' or name glob :name)
    and (:grep = '' or instr(lower(actor || ' ' || name || ' ' || coalesce(agent, '') || ' ' || body), :grep))
order by seq desc
limit :limit;

-- name: list_all_events
select id, at, name, agent, body from events order by id;
