#!/usr/bin/env bash
# Make or renew the environment in folder $1 with a supported Python ($2, or the first one found).
set -euo pipefail

venv=$1
supported='import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))'

find_python() {
  local candidate
  for candidate in "$@" python3.11 python3.10 python3.9 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.{11,10,9}.*/bin/python; do
    if "$candidate" -c "$supported; import venv, ensurepip" 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

if [ -n "${2:-}" ] && ! "$2" -c "$supported; import venv, ensurepip" 2>/dev/null; then
  echo "'$2' is no Python 3.9, 3.10 or 3.11 with venv: RecBole 1.2.1 needs ray 2.6.3, which has no" \
    "wheel for a newer version." >&2
  exit 1
fi
if ! "$venv/bin/python" -c "$supported" 2>/dev/null; then
  if command -v uv >/dev/null && [ -z "${2:-}" ]; then
    uv venv --clear --python '>=3.9,<3.12' "$venv"
  elif python=$(find_python ${2:+"$2"}); then
    "$python" -m venv --clear "$venv"
  else
    echo "No Python 3.9, 3.10 or 3.11 with venv was found: install one of them (RecBole 1.2.1 needs" \
      "ray 2.6.3, which has no newer version's wheel), or name it: make env PYTHON=/path/to/python3.11" >&2
    exit 1
  fi
fi

# Editable, so that the commands run what the folder holds.
if command -v uv >/dev/null; then
  uv pip install --python "$venv/bin/python" --editable '.[test,dev]'
else
  "$venv/bin/python" -m pip install --editable '.[test,dev]'
fi
