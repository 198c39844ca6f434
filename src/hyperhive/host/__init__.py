"""hived: the daemon on the host."""
