"""Replication: packets out of a master, into a mirror, and the proof that both are equal."""
