# Sourced by the scripts in this folder: makes a virtual environment with the project in it.
# Usage: make_environment FOLDER VERSIONS [EXTRA]
#
# VERSIONS is one of
#   pinned  those of constraints.txt: the same today and next month
#   lowest  those of constraints-lowest.txt: the lower bounds of pyproject.toml
#   newest  what the package index has today
#
# Where there is no GPU, torch is a CPU build: one that pip finds in a local folder (PIP_FIND_LINKS), or in PyTorch's
# own CPU index if that answers within a few seconds. If there is none of the lowest or newest version, the pinned
# version takes its place. CUDA's gigabytes are the last resort.

export PIP_DISABLE_PIP_VERSION_CHECK=1
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cpu_index=https://download.pytorch.org/whl/cpu

make_environment() {
  local folder=$1 versions=$2 extra=${3:+[$3]}
  local stamp="$folder/.made-for" list="$folder/constraints.txt" python="$folder/bin/python" wanted
  wanted="$versions $extra $(cat "$project/pyproject.toml" "$project"/scripts/constraints*.txt | cksum)"
  if [ "$versions" = newest ]; then wanted="$wanted $(date +%F)"; fi
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then return; fi
  echo "Making an environment in $folder (a few minutes the first time) …" >&2
  rm -f "$stamp"
  "${PYTHON:-python3}" -m venv "$folder"
  install_torch "$python" "$versions"
  { listed "$versions" | sed '/^torch==/d'; versions_of "$python" torch; } >"$list"
  install_project "$python" "$list" "$extra"
  echo "$wanted" >"$stamp"
}

# The lines of the list for VERSIONS.
listed() {
  case $1 in
    pinned) cat "$project/scripts/constraints.txt" ;;
    lowest) cat "$project/scripts/constraints-lowest.txt" ;;
    newest) echo torch ;;
  esac
}

install_torch() {
  local python=$1 versions=$2 wanted pinned
  wanted=$(listed "$versions" | grep -E '^torch(==|$)')
  pinned=$(listed pinned | grep '^torch==')
  if ! has_gpu; then
    if [ "$versions" != newest ] && pip_torch "$python" --no-index "$wanted" 2>/dev/null; then return; fi
    if cpu_index_answers "$python"; then
      if pip_torch "$python" --retries 1 --timeout 15 --index-url "$cpu_index" "$wanted"; then return; fi
    fi
    if [ "$wanted" != "$pinned" ]; then
      echo "No CPU build of the $versions torch can be had here: taking $pinned." >&2
      install_torch "$python" pinned
      return
    fi
  fi
  pip_torch "$python" "$wanted"
}

# What torch depends on comes with the project, from the same list as everything else.
pip_torch() { "$1" -m pip install --quiet --quiet --upgrade --no-deps "${@:2}"; }

# The list holds for the tools that pip builds source distributions with as well: older pips read PIP_CONSTRAINT for
# them, newer ones PIP_BUILD_CONSTRAINT. Both are split at spaces, so the list is named by an address.
install_project() {
  local python=$1 list=$2 extra=$3 address
  address=$("$python" -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).resolve().as_uri())' "$list")
  PIP_CONSTRAINT=$address PIP_BUILD_CONSTRAINT=$address "$python" -m pip install --quiet --quiet \
    --upgrade --upgrade-strategy eager --editable "$project$extra"
}

# NAME==VERSION of each installed package named, without the label of a build.
versions_of() {
  "$1" - "${@:2}" <<'PYTHON'
import importlib.metadata, sys
print(*(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in sys.argv[1:]))
PYTHON
}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; }

cpu_index_answers() {
  "$1" - "$cpu_index/torch/" <<'PYTHON' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=4).read(1)
PYTHON
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
