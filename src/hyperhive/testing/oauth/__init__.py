"""A stand-in of the account's OAuth service: what `claude auth login` and a refresh talk to, over TLS."""

HOSTS = ("api.anthropic.com", "platform.claude.com", "claude.com", "claude.ai")
"""The names that the stand-in's certificate is for: those of the account's service."""
