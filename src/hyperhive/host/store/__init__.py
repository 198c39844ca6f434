"""The hive's memory: SQL in named files, rows as frozen objects, events in the same transaction as the change."""
