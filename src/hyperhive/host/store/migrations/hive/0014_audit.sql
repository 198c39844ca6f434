-- Who did what, as a chain of hashes (see core/audit.py). What is in it is never changed and never deleted.
create table audit (
    seq   integer primary key,
    at    integer not null,
    actor text not null,
    name  text not null,
    agent text,
    body  text not null,
    -- of the hash of the row before, and of this row
    hash  text not null
) strict;

create trigger audit_grows_by_one before insert on audit
when new.seq is not coalesce((select max(seq) from audit), 0) + 1
begin
    select raise(abort, 'rows of the audit are appended, one after the other');
end;

create trigger audit_is_not_changed before update on audit
begin
    select raise(abort, 'rows of the audit are not changed');
end;

create trigger audit_is_not_deleted before delete on audit
begin
    select raise(abort, 'rows of the audit are not deleted');
end;
