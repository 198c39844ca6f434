"""How fast and how small the hive is, beside a peer or a limit measured in the same run. `benchmarks/run --help`."""
