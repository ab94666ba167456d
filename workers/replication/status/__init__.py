"""Whether replication runs, and how far it is: for pages, commands, monitoring and metrics."""
