"""Train a recipe: the same as `asr train`."""

import sys

from asr.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
