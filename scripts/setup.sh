# Sourced by the other scripts: makes a virtual environment with the toolkit in it, once.
# A second run reuses what is there unless pyproject.toml has changed. $1: pip extras, such as [dev].
set -eu

find_python() {
    for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Python 3.11 or newer is needed; install it or name it with PYTHON=/path/to/python" >&2
    exit 1
}

set_up() {
    venv="${VENV:-.venv}"
    stamp="$venv/installed$1"
    [ -x "$venv/bin/python" ] || "$(find_python)" -m venv "$venv"
    if ! cmp -s pyproject.toml "$stamp"; then
        echo "installing into $venv (a few minutes the first time)" >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$1"
        cp pyproject.toml "$stamp"
    fi
    PATH="$(cd "$venv/bin" && pwd):$PATH"
    export PATH
}
