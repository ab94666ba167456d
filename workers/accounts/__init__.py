"""Accounts of editors: their sessions."""
