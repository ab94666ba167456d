"""What replication keeps in the database: packets on their way out, and in."""
