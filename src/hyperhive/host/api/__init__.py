"""The operator's HTTP API and the pages: parse and authorise, then one call to one service."""
