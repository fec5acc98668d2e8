#!/usr/bin/env bash
# Proves, times and reports the CUDA kernels of this project on this machine's GPU. docs/gpu.md describes the steps.
#
#   scripts/gpu/check.sh OUT [--quick] [--host] [--seed N]
#
# OUT: the folder of the report. --quick: only what shows that numbers are right. --host: the CPU runs the kernels; for machines without a GPU.
# --seed: the random inputs of an earlier run; at most 18 digits. $PYTHON is a Python with PyTorch and PEFT; python3 if it is not set.
#
# Exits with 0 if all numbers are right, 1 if one is wrong or the build fails, 2 if something is missing or the arguments are wrong.
set -uo pipefail

usage() {
  echo "usage: check.sh OUT [--quick] [--host] [--seed N]" >&2
  exit 2
}

out=
quick=()
host=()
seed=()
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=(--quick) ;;
    --host) host=(--host) ;;
    --seed)
      [[ ${2-} =~ ^[0-9]{1,18}$ ]] || usage
      seed=(--seed "$2")
      shift
      ;;
    -*) usage ;;
    *)
      [ -z "$out" ] || usage
      out=$1
      ;;
  esac
  shift
done
[ -n "$out" ] || usage

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
if ! command -v "$python" >/dev/null; then
  echo "missing: Python ($python does not run; PYTHON chooses another one)" >&2
  exit 2
fi
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin:/usr/local/cuda/bin

mkdir -p "$out" || exit 2
# A report of an earlier run must not look like that of a run that failed.
rm -f "$out"/{report.json,report.md,steps.log,build.log,counters.csv} || exit 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
architecture=$("$python" "$here/machine.py" "$folder/machine.json" "${host[@]}") || exit
echo "building for $architecture"
if ! timeout 240 bash "$here/build.sh" "$folder" "$architecture" >"$folder/build.log" 2>&1; then
  cp "$folder/build.log" "$out/build.log"
  tail -n 40 "$folder/build.log"
  echo "the build failed: see the lines above, or build.log"
  exit 1
fi
echo "built in $SECONDS s"

# The whole check takes at most 5 minutes; the quick one 90 seconds after the build. A machine without a GPU takes as long as it needs.
seconds=$((290 - SECONDS))
[ "$seconds" -ge 60 ] || seconds=60
[ ${#quick[@]} -eq 0 ] || seconds=88
[ ${#host[@]} -eq 0 ] || seconds=3600
"$python" "$here/check.py" --build "$folder" --machine "$folder/machine.json" --out "$out" --seconds "$seconds" "${quick[@]}" "${host[@]}" "${seed[@]}"
