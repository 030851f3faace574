"""What a node costs, beside what the alternatives cost: same machine, same run, rounds in turn."""
