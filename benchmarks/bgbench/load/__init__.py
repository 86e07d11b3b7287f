"""Load on a server: arrivals at a rate, and more of them than it can answer."""
