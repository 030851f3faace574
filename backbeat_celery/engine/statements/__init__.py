"""The hot steps of a node as single prepared statements, on PostgreSQL with psycopg 3.

Each function here does what a portable one beside this package does, with the same guards,
locks and history, and gives None for whatever is not the common case; then the portable one
does it. Nothing depends on this package: without it every step is only slower.
"""
