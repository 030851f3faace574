"""The DBOS contestant: durable workflows in PostgreSQL, without a broker."""
