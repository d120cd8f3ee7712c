"""``python -m wilson`` is ``wilson``."""

import sys

from wilson.cli import main

if __name__ == "__main__":
    sys.exit(main())
