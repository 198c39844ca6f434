"""What `hive backup` and `hive restore` do, with no help of a daemon."""
