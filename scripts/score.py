"""The same as `asr score`."""

import sys

from asr.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
