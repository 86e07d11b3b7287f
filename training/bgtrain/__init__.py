"""Train and score the Tiramisu and its rivals."""
