"""`python -m resnets`: the command line."""

from resnets.cli import main

if __name__ == "__main__":
    main()
