-- name: list_devices
select * from devices order by id;

-- name: find_device_at
select * from devices where endpoint = :endpoint;

-- name: count_devices
select count(*) as count from devices;

-- name: insert_device
insert into devices (endpoint, point, auth, name, added_at)
values (:endpoint, :point, :auth, :name, :at)
returning *;

-- name: renew_device
-- The same browser once more: it stays muted, and what it was told still stands there.
update devices set point = :point, auth = :auth, name = :name, error = '' where id = :id returning *;

-- name: mute_device
update devices set muted = :muted where id = :id returning *;

-- name: delete_device
delete from devices where id = :id returning *;

-- name: note_device_sent
-- Without an instant, nothing was sent.
update devices set sent_at = coalesce(:at, sent_at), error = iif(:at is null, error, '') where id = :id returning *;

-- name: note_device_failed
update devices set error = :error where id = :id returning *;

-- name: list_pushed
select * from pushed;

-- name: save_pushed
insert into pushed (device, key, at) values (:device, :key, :at)
on conflict (device, key) do update set at = excluded.at;

-- name: delete_pushed
delete from pushed where device = :device and key = :key;

-- name: delete_pushed_of
delete from pushed where device = :device;

-- name: delete_old_pushed
-- Of needs that went while nobody looked.
delete from pushed where at < :before;
