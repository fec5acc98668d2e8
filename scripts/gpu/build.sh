#!/usr/bin/env bash
# Builds the library of the CUDA kernels and its C++ test without CMake.
#
#   scripts/gpu/build.sh FOLDER 90      with nvcc, for the architecture sm_90 alone
#   scripts/gpu/build.sh FOLDER host    the same source with the host's compiler and host-shim/: the CPU runs the kernels
#
# FOLDER then contains libfourierft-cuda.so and fourierft-cuda-test. $CXX is the host's compiler; g++ if it is not set.
set -euo pipefail

if [ $# -ne 2 ] || ! [[ $2 =~ ^(host|[0-9]+[a-z]?)$ ]]; then
  echo "usage: build.sh FOLDER ARCHITECTURE|host (an architecture is a number such as 90)" >&2
  exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
architecture=$2
cd "$(dirname "${BASH_SOURCE[0]}")/../../packages/native"

compiler=${CXX:-g++}
common=(-std=c++17 -O3 -DNDEBUG -fPIC -fvisibility=hidden -Wall -Wextra -Iinclude)
jobs=()

# Compiles in the background: object NAME, then the command.
compile() {
  local name=$1
  shift
  "$@" -o "$folder/$name.o" &
  jobs+=($!)
}

objects=(plan branch kernel-generic)
if [[ $(uname -m) =~ ^(x86_64|amd64)$ ]]; then
  objects+=(kernel-avx2 kernel-avx512)
fi
for name in "${objects[@]}"; do
  flags=()
  case $name in
    kernel-avx2) flags=(-mavx2 -mfma -mf16c) ;;
    kernel-avx512) flags=(-mavx512f -mavx512vl -mfma -mf16c -mprefer-vector-width=512) ;;
  esac
  compile "$name" "$compiler" "${common[@]}" -Wno-psabi "${flags[@]}" -c "src/$name.cc"
done

if [ "$architecture" = host ]; then
  shim=("$compiler" "${common[@]}" -Wno-unknown-pragmas -Ihost-shim -Icuda -c)
  compile fourierft-cuda "${shim[@]}" host-shim/fourierft-cuda.cc
  compile cuda-test "${shim[@]}" test/cuda-test.cc
  link=("$compiler")
else
  device=(nvcc -ccbin "$compiler" -std=c++17 -O3 -DNDEBUG -lineinfo -Xcompiler -fPIC,-fvisibility=hidden -Iinclude -Icuda
    -gencode "arch=compute_$architecture,code=sm_$architecture" -c)
  # ptxas prints the registers and spills of each kernel.
  compile fourierft-cuda "${device[@]}" -Xptxas -v cuda/fourierft-cuda.cu
  compile cuda-test "${device[@]}" test/cuda-test.cc
  link=(nvcc -cudart static -ccbin "$compiler")
fi
for job in "${jobs[@]}"; do wait "$job"; done

parts=("$folder/fourierft-cuda.o")
for name in "${objects[@]}"; do parts+=("$folder/$name.o"); done
"${link[@]}" -shared -Xlinker --exclude-libs=ALL -o "$folder/libfourierft-cuda.so" "${parts[@]}"
"${link[@]}" -o "$folder/fourierft-cuda-test" "$folder/cuda-test.o" "${parts[@]}"
