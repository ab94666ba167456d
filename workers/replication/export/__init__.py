"""Packets out of a master."""
