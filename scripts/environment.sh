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
unset PYTHONDONTWRITEBYTECODE # without bytecode, each of the hundreds of processes of a test run compiles torch again
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
  if [ "$versions" = newest ]; then rm -rf "$folder"; fi # uv keeps what is there and fits
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
# Python compiles what is imported, and leaves out the most.
pip_torch() { "$1" -m pip install --quiet --quiet --no-compile --upgrade --no-deps "${@:2}"; }

# The list holds for the tools that build source distributions as well. uv installs in a fraction of pip's time; where it
# cannot, as behind settings that pip alone knows, pip does.
install_project() {
  local python=$1 list=$2 what=$project${3:-}
  install_by_uv "$python" "$list" "$what" || install_by_pip "$python" "$list" "$what"
}

# uv reads no settings of pip, so it is told pip's index and certificates.
install_by_uv() {
  local python=$1 list=$2 index=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}} certificates=${SSL_CERT_FILE:-${PIP_CERT:-}}
  index=${index:-$(pip_setting "$python" index-url)} certificates=${certificates:-$(pip_setting "$python" cert)}
  PIP_CONSTRAINT=$(address_of "$python" "$list") "$python" -m pip install --quiet --quiet uv || return
  env ${index:+"UV_DEFAULT_INDEX=$index"} ${certificates:+"SSL_CERT_FILE=$certificates"} \
    "$python" -m uv pip install --quiet --python "$python" --constraint "$list" --build-constraint "$list" --editable "$3"
}

# Older pips read PIP_CONSTRAINT for what they build with, newer ones PIP_BUILD_CONSTRAINT.
install_by_pip() {
  local python=$1 address
  address=$(address_of "$python" "$2")
  PIP_CONSTRAINT=$address PIP_BUILD_CONSTRAINT=$address "$python" -m pip install --quiet --quiet \
    --upgrade --upgrade-strategy eager --editable "$3"
}

pip_setting() { "$1" -m pip config get "global.$2" 2>/dev/null || true; }

# pip splits its variables at spaces, so a file is named by an address.
address_of() { "$1" -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).resolve().as_uri())' "$2"; }

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
