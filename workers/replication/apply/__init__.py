"""Making a packet's changes on a mirror: all of them in one transaction, set by set or one by one."""
