-- Dead letters that the operator wants to hear no more of. One that dies again, later, is another matter.

create table dismissed (
    message_id integer primary key,
    -- as in messages.settled_at
    died_at    integer
) strict;
