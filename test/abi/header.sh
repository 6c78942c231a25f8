#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# header.sh HEADER COMPILER...: the header compiles alone, without a warning, as C99 to C17 and as
# C++11 to C++20. A compiler that is not installed is skipped aloud; none at all is exit code 77.
set -u
header=$1
shift
warnings='-Wall -Wextra -Wpedantic -Wundef -Wconversion -Werror'
failed=0
tried=0

try() { # COMPILER LANGUAGE STANDARD
	tried=$((tried + 1))
	if ! "$1" -x "$2" -std="$3" $warnings -fsyntax-only "$header"; then
		echo "$1 refuses $header as $3"
		failed=1
	fi
}

for compiler in "$@"; do
	if ! command -v "$compiler" >/dev/null; then
		echo "skipped: $compiler is not installed"
		continue
	fi
	case $compiler in
	*++*) for standard in c++11 c++14 c++17 c++20; do try "$compiler" c++ $standard; done ;;
	*) for standard in c99 c11 c17; do try "$compiler" c $standard; done ;;
	esac
done
[ $tried -gt 0 ] || exit 77
exit $failed
