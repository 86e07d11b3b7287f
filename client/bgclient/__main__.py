"""``python -m bgclient``."""

from bgclient.cli import main

main()
