#!/usr/bin/env bash
# Make an environment and run all the tests. Usage: scripts/test.sh [PYTEST OPTIONS]
# The slow ones are left out by default; all of them: scripts/test.sh -m ""
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

make_environment "$project/.venv" dev
install_java
cd "$project"
export OMP_NUM_THREADS=1 # one thread a worker: threads that wait for each other's cores are slower than one
exec .venv/bin/python -m pytest --numprocesses 2 -m "not slow" "$@"
