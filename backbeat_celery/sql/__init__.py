"""Run prepared statements on PostgreSQL, and read their rows."""
