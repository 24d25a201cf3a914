"""`python -m wyoming_piwhisper` is the command `wyoming-piwhisper`."""

import sys

from wyoming_piwhisper.cli import main

if __name__ == "__main__":
    sys.exit(main())
