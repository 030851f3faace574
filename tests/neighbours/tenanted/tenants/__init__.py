"""Who the tenants are: tables of the public schema."""
