#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# example_static.sh SOURCE ARCHIVE INCLUDE SANITIZE: a program links with the static archive alone
# and the libraries that pkg-config --static names.
set -eu
sanitize=
[ "$4" = none ] || sanitize=-fsanitize=$4
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cc $sanitize -I"$3" "$1" "$2" -lssl -lcrypto -lisal -lpthread -o "$out"
[ "$("$out" --version)" = "$(sed -n 's/.*CTXKV_VERSION_\(MAJOR\|MINOR\|PATCH\) *\([0-9]*\)$/\2/p' \
	"$3/ctxkv.h" | paste -sd.)" ]
