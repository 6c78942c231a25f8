/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target is one file with this function: it gives the bytes to a decoder and uses what the
 * decoder lets through. libFuzzer calls it (built by clang with -Dfuzz=true), and so does replay.c
 * with the files of test/corpus, in every build.
 *
 * A crash found becomes a file in the corpus, named for what was wrong.
 */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#endif
