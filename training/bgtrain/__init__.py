"""Train and judge the Tiramisu and its rivals."""
