"""Configs of agents: repositories, what a change means, what is deployed."""
