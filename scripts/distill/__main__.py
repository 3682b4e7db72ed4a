"""`python -m distill`: the command line without its installation."""

import sys

from distill.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
