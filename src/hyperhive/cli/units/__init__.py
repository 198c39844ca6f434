"""The hive as a service of systemd: its units, where they go, and the manager that runs them."""
