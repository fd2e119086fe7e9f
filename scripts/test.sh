#!/usr/bin/env bash
# Check the style and types and run the tests; arguments go to pytest (such as: -m slow, -k encoder).
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up "[dev]"
# Recipes' archives, where they lie beside the clone.
if [ -z "${ASR_ARCHIVES:-}" ] && [ -d ../shared/data ]; then
    ASR_ARCHIVES=$(cd ../shared/data && pwd)
    export ASR_ARCHIVES
fi
ruff check .
ruff format --check --quiet .
mypy
pytest "$@"
