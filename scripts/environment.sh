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

# Java runs METEOR and the tokenizer of METEOR, ROUGE_L and CIDEr. Root on Debian and its relatives gets it; elsewhere,
# or where the packages cannot be had, the tests that need it are skipped.
install_java() {
  if has_java; then return 0; fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Java …" >&2
    apt_install_java || { apt_get update && apt_install_java; } || true
    if has_java; then return 0; fi
  fi
  echo "There is no Java: what needs it is skipped. To have it: apt-get install default-jre-headless" >&2
}

has_java() { [ -x "${JAVA_HOME:-/none}/bin/java" ] || command -v java >/dev/null 2>&1; }

apt_install_java() { apt_get install --yes --no-install-recommends default-jre-headless; }

apt_get() {
  DEBIAN_FRONTEND=noninteractive timeout 300 apt-get --quiet --quiet -o Acquire::Retries=0 -o Acquire::http::Timeout=15 \
    -o DPkg::Lock::Timeout=60 "$@" </dev/null >/dev/null 2>&1
}
