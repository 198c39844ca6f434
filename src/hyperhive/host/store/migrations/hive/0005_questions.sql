-- Agents ask one another: such a question reaches whom it is asked as a message, and so does its end.

-- an agent, or 'operator'
alter table questions add column asked text not null default 'operator';
-- the message that asks it
alter table questions add column message integer;

-- of a message: the question that it asks, and the one whose end it tells; only the hive writes these
alter table messages add column question integer;
alter table messages add column answer_to integer;

-- Few are open at a time, of many that ever were.
create index questions_open on questions (id) where status = 'open';
create index questions_open_of on questions (agent, kind) where status = 'open';
