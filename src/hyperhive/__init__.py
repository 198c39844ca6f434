"""hyperhive: one operator, one machine, a swarm of Claude Code agents."""

__version__ = "0.1.0"
