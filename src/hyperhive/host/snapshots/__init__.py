"""Snapshots of whole agents: taken between two turns, kept as archives, brought back, forked, carried elsewhere."""
