#!/usr/bin/env python3
"""Speed measurements, each a ratio against a named alternative in one run.

python scripts/bench.py encoder --help
"""

import argparse
import importlib.util
import sys
from pathlib import Path

from asr.errors import AsrError

FOLDER = Path(__file__).parent


def main() -> int:
    """Run the benchmark that the command line names: each is a bench_*.py beside this file.

    Returns 2 after a mistake in the arguments or the data, else what the benchmark returns.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(metavar="BENCHMARK", required=True)
    for path in sorted(FOLDER.glob("bench_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        module.add_parser(subparsers)
    args = parser.parse_args()
    try:
        return args.run(args)
    except AsrError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
