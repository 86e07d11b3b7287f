"""The client: `from bgclient import cut`."""
