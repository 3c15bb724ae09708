#!/usr/bin/env bash
# Make or renew the environment in folder $1 with a supported Python ($2, or the first one found).
set -euo pipefail

venv=$1
newest=14
supported="import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, $newest) or sys.maxsize < 2**32)"
wanted="64-bit Python 3.9 to 3.$newest with venv"
# It requires a ray that Python 3.12 and newer do not have, and does without.
recbole=1.2.1

find_python() {
  local candidate
  for candidate in "$@" python3.{11,12,13,10,9,$newest} python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.{11,12,13,10,9,$newest}.*/bin/python; do
    if "$candidate" -c "$supported; import venv, ensurepip" 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

has_gpu() {
  command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1
}

if [ -n "${2:-}" ] && ! "$2" -c "$supported; import venv, ensurepip" 2>/dev/null; then
  echo "'$2' is no $wanted: name another one, make env PYTHON=/path/to/python3.12, or install" \
    "python3-venv where that alone is missing." >&2
  exit 1
fi
if ! "$venv/bin/python" -c "$supported" 2>/dev/null; then
  if command -v uv >/dev/null && [ -z "${2:-}" ]; then
    uv venv --clear --python ">=3.9,<3.$((newest + 1))" "$venv"
  elif python=$(find_python ${2:+"$2"}); then
    "$python" -m venv --clear "$venv"
  else
    echo "No $wanted was found: install one, or uv, which brings its own; or name it: make env" \
      "PYTHON=/path/to/python3.12" >&2
    exit 1
  fi
fi

if command -v uv >/dev/null; then
  install() { uv pip install --compile-bytecode --python "$venv/bin/python" "$@"; }
  backend=(--torch-backend=auto)
  has_gpu || backend=(--torch-backend=cpu)
else
  install() { "$venv/bin/python" -m pip install "$@"; }
  backend=()
  if ! has_gpu && ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    echo "No GPU is here. On Linux pip takes PyTorch's CUDA build of several GB: to have the small" \
      "one, install uv (pip install uv) and run this again, or put PyTorch's CPU build into $venv" \
      "first (pytorch.org/get-started)."
  fi
fi

# Editable, so that the commands run what the folder holds.
if ! install ${backend[@]+"${backend[@]}"} --editable '.[test,dev]'; then
  [ ${#backend[@]} -gt 0 ] || exit 1
  echo "PyTorch's own builds (${backend[0]}) could not be installed: taking the default one." >&2
  install --editable '.[test,dev]'
fi
if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
  install --no-deps "recbole==$recbole"
fi
