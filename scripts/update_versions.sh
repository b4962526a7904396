#!/usr/bin/env bash
# Resolve all dependencies again, the development tools included, for every Python and platform:
#   scripts/constraints.txt         the versions of .venv: the newest, except for torch
#   scripts/constraints-lowest.txt  the versions of .venv-lowest: the lower bounds of pyproject.toml
# Needs uv, which scripts/test.sh installs into .venv. Usage: scripts/update_versions.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH"

# torch moves by hand: a new release may have no CPU build at hand.
torch=2.13.0
# What pip builds source distributions with is no dependency of the package, but it has to be the same everywhere too.
build_tools=(setuptools wheel)

compile() {
  local list=$1
  shift
  uv pip compile pyproject.toml - --output-file "$list" --all-extras --universal --python-version 3.10 --upgrade \
    --no-python-downloads --no-annotate --quiet --custom-compile-command scripts/update_versions.sh "$@"
}

printf '%s\n' "torch==$torch" "${build_tools[@]}" | compile scripts/constraints.txt
# Of sympy and triton each release of torch names the one version that it takes.
grep -E "^($(IFS='|' && echo "${build_tools[*]}"))==" scripts/constraints.txt |
  compile scripts/constraints-lowest.txt --resolution lowest-direct --no-emit-package sympy --no-emit-package triton
