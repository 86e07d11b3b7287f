"""What is measured: networks, pixels, servers."""
