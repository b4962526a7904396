"""`python -m red_cli` is `red`."""

from red_cli.cli import main

if __name__ == "__main__":
    main()
