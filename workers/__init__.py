"""What events cause, a folder a feature."""
