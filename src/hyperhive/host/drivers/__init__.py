"""Drivers: what starts containers. One protocol, one conformance suite, a file a driver."""
