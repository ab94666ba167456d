"""Sessions of the web: who is signed in, for how long, and their end."""
