"""Faults under load, and what clients saw of them."""
