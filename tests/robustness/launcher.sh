#!/usr/bin/env bash
# The launcher around a project of one file: builds once, notices changes, reports failures, is quiet
# and quick when there is nothing to do. Usage: launcher.sh SOURCE_DIR
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LIBTORCH_ROOT=$work/libtorch
unset DKDM_BUILD_DIR
mkdir -p "$work"/{libtorch,project/{cmake,core,metrics,plugins,results}}
cp "$1/dkdm" "$work/project/dkdm"
cd "$work/project"
cat >core/main.cpp <<'CPP'
#include <cstdio>
int main(int argc, char** argv) { return std::printf("%d:%s\n", argc, argc > 1 ? argv[1] : "") < 0; }
CPP
cat >CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(small LANGUAGES CXX)
set(LIBTORCH_ROOT "" CACHE PATH "")
add_executable(dkdm core/main.cpp)
enable_testing()
add_test(NAME fine COMMAND dkdm)
add_test(NAME broken COMMAND false)
set_tests_properties(fine PROPERTIES LABELS unit)
set_tests_properties(broken PROPERTIES LABELS e2e)
CMAKE

# expect CODE PATTERN COMMAND…: the command's exit code, and what its output (both streams) says.
expect() {
  local code=$1 pattern=$2 seen=0 said
  shift 2
  said=$("$@" 2>&1) || seen=$?
  if [[ $seen != "$code" ]] || ! grep -q -- "$pattern" <<<"$said"; then
    printf '%s\n--- ended with %s, expected %s and "%s"\n' "$said" "$seen" "$code" "$pattern"
    exit 1
  fi
}

expect 0 '^3:two words$' ./dkdm 'two words' x
# Nothing to do: the program's own output and nothing else, from any folder, through a link.
ln -s "$work/project/dkdm" "$work/link"
said=$(cd / && "$work/link" again 2>&1)
[[ $said == 2:again ]] || { echo "not quiet: $said"; exit 1; }
# And no build tool is asked: an empty PATH but for what the check itself needs.
mkdir "$work/bin"
for tool in bash env dirname readlink find; do ln -s "$(command -v "$tool")" "$work/bin/"; done
said=$(PATH=$work/bin ./dkdm quick 2>&1)
[[ $said == 2:quick ]] || { echo "asked more than it may: $said"; exit 1; }

sed -i 's/%d:/changed %d:/' core/main.cpp
expect 0 '^changed 1:$' ./dkdm
echo 'int broken = "text";' >>core/main.cpp
expect 1 'core/main.cpp:3' ./dkdm     # the compiler's own words
expect 1 'build.log' ./dkdm           # a failed build is not taken for a finished one
sed -i '$d' core/main.cpp
expect 0 '^changed 1:$' ./dkdm

expect 0 '100% tests passed' ./dkdm test unit
expect 8 '50% tests passed, 1 tests failed out of 2' ./dkdm test
expect 2 "no group 'units'; there are: unit conformance robustness e2e" ./dkdm test units
# What the e2e tests open our output with is installed for them alone; without it they still run.
mkdir -p tests/e2e build/test-tools "$work/none"
printf '#!/bin/sh\nprintf "%%s installed\\n" "$@" | grep -v chromium\n' >"$work/none/dpkg-query"
printf '#!/bin/sh\nexit 1\n' >"$work/none/apt-get"
chmod +x "$work"/none/*
expect 8 'without chromium: the tests that need them are skipped' env PATH="$work/none:$PATH" ./dkdm test e2e
expect 0 '100% tests passed' env PATH="$work/none:$PATH" ./dkdm test unit

# Presets: another build in a folder of its own, configured and tested as CMakePresets.json says.
cp "$1/CMakePresets.json" .
cat >>CMakeLists.txt <<'CMAKE'
set(DKDM_SANITIZE "" CACHE STRING "")
if(DKDM_SANITIZE)
  add_test(NAME sanitized COMMAND sh -c "echo ${DKDM_SANITIZE} $ASAN_OPTIONS; exit 1")
  set_tests_properties(sanitized PROPERTIES LABELS robustness)
endif()
CMAKE
expect 8 '^address,undefined detect_leaks=0:detect_container_overflow=0:allocator_may_return_null=1$' ./dkdm test --preset asan-ubsan
expect 0 '100% tests passed, 0 tests failed out of 1' ./dkdm test --preset asan-ubsan unit
expect 8 '1 tests failed out of 2' ./dkdm test --preset asan-ubsan  # unit and robustness
expect 8 '2 tests failed out of 2' ./dkdm test --preset asan-ubsan robustness e2e
grep -q '^CMAKE_BUILD_TYPE:[A-Z]*=Release$' build-asan-ubsan/CMakeCache.txt
grep -q '^DKDM_SANITIZE:[A-Z]*=$' build/CMakeCache.txt || expect 0 '100% tests passed' ./dkdm test unit
expect 0 '100% tests passed' ./dkdm test --preset debug unit
grep -q '^CMAKE_BUILD_TYPE:[A-Z]*=Debug$' build-debug/CMakeCache.txt
expect 0 '100% tests passed' ./dkdm test --preset release unit  # the launcher's own folder
[[ ! -e build-release ]]
expect 2 "no preset 'asan'; there are: release debug asan-ubsan tsan coverage fuzz" ./dkdm test --preset asan
expect 2 "no preset ''; there are: release" ./dkdm test --preset
expect 2 "no group 'units'" ./dkdm test --preset tsan units
# The launcher knows those that there are.
listed=$(cmake --list-presets | sed -n 's/^  "\([a-z-]*\)".*/\1/p' | paste -sd' ')
expect 2 "there are: $listed\$" ./dkdm test --preset none

LIBTORCH_ROOT=$work/nowhere expect 3 'no such folder' ./dkdm
echo "launcher: all as expected"
