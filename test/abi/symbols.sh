#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# symbols.sh EXPECTED HEADER [LIBRARY]: the functions that ctxkv.h declares, and the symbols that the
# shared library exports, are those of the file EXPECTED, no more and no less.
set -u
export LC_ALL=C
expected=$1
header=$2
library=${3:-}
failed=0

compare() { # WHAT; the list on standard input
	sort | diff "$expected" - || {
		echo "$1 differs from $expected (< expected, > found)"
		failed=1
	}
}

# Everything is declared as CTXKV_API; a declaration may be broken behind it.
tr '\n' ' ' <"$header" | tr ';' '\n' | grep CTXKV_API | grep -v '#define' |
	sed -n 's/.*CTXKV_API[^(]*[ *]\(ctxkv_[a-z_]*\)(.*/\1/p' >header.list.$$
compare "$header" <header.list.$$
rm -f header.list.$$
if [ -n "$library" ]; then
	nm -D --defined-only "$library" | awk '{ print $NF }' | sed 's/@.*//' |
		grep -v '^CTXKV_[0-9.]*$' >library.list.$$
	compare "$library" <library.list.$$
	rm -f library.list.$$
fi
exit $failed
