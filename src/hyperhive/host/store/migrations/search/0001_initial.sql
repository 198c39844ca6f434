-- Derived from the messages in hive.sqlite: whoever deletes this file has it made anew.

-- Without the texts themselves. In `who`: s and r, each with the name of the sender or the recipient in hex.
create virtual table message_index using fts5 (
    body, who, content = '', tokenize = 'unicode61 remove_diacritics 2'
);
-- Half the writes of SQLite's own choice, 4, for some more pieces that a search looks into.
insert into message_index (message_index, rank) values ('automerge', 8);

-- Which messages are in it: low < id <= high. It grows at both ends: new ones at once, old ones as there is time.
create table index_range (
    one     integer primary key check (one = 1),
    low     integer not null,
    high    integer not null,
    -- of the message `high`, by which another database is known
    sent_at integer not null
) strict;

-- What was indexed of messages whose text may still be changed: only by it can they be taken out again.
create table index_copies (
    id   integer primary key,
    body text not null
) strict;
