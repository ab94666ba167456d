"""Where events come from: capture in the database, and the bridge that turns captured rows into events."""
