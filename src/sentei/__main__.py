"""`python -m sentei` is the command `sentei`."""

from sentei.cli.app import main

if __name__ == "__main__":
    main()
