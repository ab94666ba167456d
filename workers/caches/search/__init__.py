"""Which entities have a name: the searches that the events of entities expire."""
