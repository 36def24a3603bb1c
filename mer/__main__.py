"""`python -m mer`."""

import sys

from mer.cli import main

if __name__ == "__main__":
    sys.exit(main())
