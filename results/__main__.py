"""`python -m results`."""

from results.cli import main

if __name__ == "__main__":
    main()
