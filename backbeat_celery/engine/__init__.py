"""The four steps of a node (claim, record, advance, publish), and the sweep as their repair."""
