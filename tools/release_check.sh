#!/usr/bin/env bash
# tools/release_check.sh [FOLDER] - build sdist and wheel into FOLDER (dist), install each into an
# empty environment, and run the demo from there, outside of the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-dist}
python=.venv/bin/python

fail() { echo "$1" >&2; exit 1; }

version=$($python -c 'import recbole_llmkt; print(recbole_llmkt.__version__)')
grep -q "^## \[$version\]" CHANGELOG.md ||
  fail "CHANGELOG.md has no heading '## [$version]': move what is under [Unreleased] there."
grep -q "^version: $version\$" CITATION.cff || fail "CITATION.cff names another version than $version."

rm -f "$folder"/recbole_llmkt-*
$python tools/build.py "$folder" > /dev/null
packages=("$folder/recbole_llmkt-$version.tar.gz" "$folder/recbole_llmkt-$version-py3-none-any.whl")
$python -m pip install --quiet twine
$python -m twine check --strict "${packages[@]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Only the CPU build is asked for by its label: builds for GPUs have one that registries leave out.
torch=$($python -c 'import torch; v = torch.__version__; print(v if "+cpu" in v else v.split("+")[0])')
for built in "${packages[@]}"; do
  echo "== $built"
  rm -rf "$work"/*
  $python -m venv "$work/venv"
  # The same build of PyTorch: without a GPU the newest is gigabytes of CUDA.
  "$work/venv/bin/python" -m pip install --quiet "torch ==$torch" "$built"
  (
    cd "$work"
    venv/bin/llmkt doctor
    properties=$(venv/bin/python -c \
      'from recbole_llmkt.utils import resources; print(resources.properties_dir())')
    venv/bin/llmkt compare --models=BPR,EASE,NeuMF --arms=base,kt,shuffled --seeds=1,2,3 \
      --dataset=ml-100k --kt_preset="$properties/experiments/demo.yaml" --output=demo_output
    test -s demo_output/report.html
  )
done
