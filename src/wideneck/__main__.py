"""`python -m wideneck`, for launchers that start modules."""

from wideneck.cli import main

if __name__ == "__main__":
    main()
