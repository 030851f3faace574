"""Read and explain what is in the tables. Nothing here steers a node."""
