#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# static_archive.sh LD OBJCOPY AR OUT ARCHIVE...: one relocatable object out of the archives, private symbols made
# local, so that a program that links libctxkv.a sees ctxkv_* only.
set -eu
ld=$1
objcopy=$2
ar=$3
out=$4
shift 4
object=$out.o
"$ld" -r --whole-archive "$@" -o "$object"
"$objcopy" --localize-hidden "$object"
rm -f "$out"
"$ar" rcs "$out" "$object"
rm -f "$object"
