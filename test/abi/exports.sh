#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# exports.sh LIBRARY LIST: it defines these symbols for others, and no more.
set -eu
case $1 in
*.a) symbols=$(nm -g --defined-only "$1") ;;
*) symbols=$(nm -D --defined-only "$1") ;;
esac
# The version script's own node, and what sanitizers add, are nobody's interface.
echo "$symbols" | awk 'NF == 3 && $2 ~ /[A-Z]/ && $2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	grep -v -e '^__asan' -e '^__odr_asan' -e '^_\?_ubsan' | LC_ALL=C sort >"exports.$$"
trap 'rm -f "exports.$$"' EXIT
diff "$2" "exports.$$"
