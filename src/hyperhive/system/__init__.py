"""One door for each kind of effect (processes, SQLite, files, sockets, log). No word of the hive in here."""
