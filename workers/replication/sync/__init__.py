"""Keeping a mirror up to date: packets fetched, checked and applied, one after the other."""
