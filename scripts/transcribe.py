"""Run ``asr transcribe`` from a clone."""

import sys

from asr.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["transcribe", *sys.argv[1:]]))
