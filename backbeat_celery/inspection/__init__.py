"""Read, explain and check the tables. Only the doctor's repairs write."""
