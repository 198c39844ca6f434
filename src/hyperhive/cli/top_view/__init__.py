"""`hive top`: the hive on a terminal, live. A program of its own: it loads more than all other commands together."""
