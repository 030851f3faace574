"""Results of attempts that come from outside the handler."""
