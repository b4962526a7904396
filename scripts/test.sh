#!/usr/bin/env bash
# Make an environment and run all the tests. Usage: scripts/test.sh [--lowest | --newest] [PYTEST OPTIONS]
# The slow ones are left out by default; all of them: scripts/test.sh -m ""
# --lowest takes the lowest versions that pyproject.toml allows, --newest the newest that there are.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

versions=pinned environment=.venv
case ${1:-} in
  --lowest | --newest)
    versions=${1#--} environment=.venv-${1#--}
    shift
    ;;
esac
cd "$project"
make_environment "$project/$environment" "$versions" dev
echo "$versions versions: $(versions_of "$environment/bin/python" torch transformers accelerate datasets pydantic numpy)"
install_java
export OMP_NUM_THREADS=1 # one thread a worker: threads that wait for each other's cores are slower than one
exec "$environment/bin/python" -m pytest --numprocesses 2 --dist worksteal -m "not slow" "$@"
