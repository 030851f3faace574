"""What each tenant has: tables of each tenant's schema."""
