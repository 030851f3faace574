"""The absurd contestant: durable tasks in PostgreSQL functions, without a broker."""
