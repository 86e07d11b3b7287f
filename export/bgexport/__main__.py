"""``python -m bgexport``."""

from bgexport.cli import main

if __name__ == "__main__":
    main()
