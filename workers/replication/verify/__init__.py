"""Proving that a mirror holds what its master holds, without shipping the data."""
