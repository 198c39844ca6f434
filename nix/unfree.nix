# The one package without a free licence that a hive needs.
{ lib }: package: lib.getName package == "claude-code"
