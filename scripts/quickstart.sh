#!/usr/bin/env bash
# From nothing but Python to a trained, scored and exported model, with nothing from a hub.
# Usage: scripts/quickstart.sh [FOLDER]      the results go to FOLDER (default: quickstart-run)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

results=${1:-quickstart-run}
make_environment "$project/.venv" pinned
red="$project/.venv/bin/red"

echo "\$ red train quickstart"
"$red" train quickstart "output.dir=$results"
echo
echo "\$ red eval $results"
"$red" eval "$results"
echo
echo "\$ red export $results --output $results-merged"
"$red" export "$results" --output "$results-merged"
