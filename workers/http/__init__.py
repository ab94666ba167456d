"""The one client for everything outside."""
