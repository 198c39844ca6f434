-- name: forget_tags
-- The applied repo is gone: there is nothing left that its tags could tell.
update approvals set tagged = status where agent = :agent and tagged <> status;
