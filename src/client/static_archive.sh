#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# static_archive.sh OUT ARCHIVE...: one relocatable object out of the archives, private symbols made
# local, so that a program that links libctxkv.a sees ctxkv_* only.
set -eu
out=$1
shift
object=$out.o
ld -r --whole-archive "$@" -o "$object"
objcopy --localize-hidden "$object"
rm -f "$out"
ar rcs "$out" "$object"
rm -f "$object"
