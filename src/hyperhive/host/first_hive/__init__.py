"""What is taken over from a data folder of the first hive (see docs/reference/cli.md, `hive import-first-hive`)."""
