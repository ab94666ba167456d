"""How often something may be done: counted in Redis, exactly, for all processes together."""
