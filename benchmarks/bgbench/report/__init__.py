"""Tables, plots and comparisons made from result files."""
