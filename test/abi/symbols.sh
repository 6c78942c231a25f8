#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# symbols.sh LIST HEADER: the functions that ctxkv.h declares as CTXKV_API are those of the file LIST,
# no more and no less. What the libraries export is held against the same file by exports.sh.
set -eu
# A declaration may be broken behind CTXKV_API: join lines, then split at semicolons.
tr '\n' ' ' <"$2" | tr ';' '\n' | grep CTXKV_API | grep -v '#define' |
	sed -n 's/.*CTXKV_API[^(]*[ *]\(ctxkv_[a-z_]*\)(.*/\1/p' | LC_ALL=C sort | diff "$1" -
