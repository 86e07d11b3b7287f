"""Find, start, watch and stop the pip-installed tritonserver."""
