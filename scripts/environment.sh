# Sourced by the scripts beside it: makes a virtual environment with the project in it.
# Usage: make_environment FOLDER [EXTRA]
#
# torch comes as scripts/constraints.txt says. Where there is no GPU, a CPU build is taken: one that pip finds in a
# local folder (PIP_FIND_LINKS), or PyTorch's own CPU index if that answers within a few seconds. CUDA's gigabytes are
# the last resort.

export PIP_DISABLE_PIP_VERSION_CHECK=1
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cpu_index=https://download.pytorch.org/whl/cpu

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; }

torch_requirement() { grep '^torch' "$project/scripts/constraints.txt"; }

cpu_index_answers() {
  "$1/bin/python" - "$cpu_index/torch/" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=4).read(1)
PYTHON
}

install_torch() {
  local python="$1/bin/python" wanted
  wanted=$(torch_requirement)
  if ! has_gpu; then
    "$python" -m pip install --quiet --no-index --no-deps "$wanted" 2>/dev/null && { "$python" -m pip install --quiet "$wanted"; return; }
    if cpu_index_answers "$1"; then
      "$python" -m pip install --quiet --retries 1 --timeout 15 --index-url "$cpu_index" "$wanted" && return
    fi
  fi
  "$python" -m pip install --quiet "$wanted"
}

make_environment() {
  local folder=$1 extra=${2:+[$2]}
  local stamp="$folder/.made-for"
  local wanted
  wanted="$extra $(cat "$project/pyproject.toml" "$project/scripts/constraints.txt" | cksum)"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then return; fi
  echo "Making an environment in $folder (a few minutes the first time) …" >&2
  "${PYTHON:-python3}" -m venv "$folder"
  install_torch "$folder"
  "$folder/bin/python" -m pip install --quiet --constraint "$project/scripts/constraints.txt" --editable "$project$extra"
  echo "$wanted" >"$stamp"
}
