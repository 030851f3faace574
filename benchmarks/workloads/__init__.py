"""One module a workload: in each, one function for each contestant."""
