/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over the files of a corpus folder, as they are and damaged a little: cut off
 * at every length up to ROUNDS, and with ROUNDS random bytes changed one after the other. It is no
 * fuzzer, but finds the crude mistakes of a decoder in every build.
 *
 *   replay_TARGET FOLDER ROUNDS
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/base.h"
#include "fuzz.h"

#define FILE_MAX (256 * KiB)

/* xorshift64*, seeded by the file's size: the same bytes in every run. */
static uint64_t next_random(uint64_t *random)
{
	*random ^= *random >> 12;
	*random ^= *random << 25;
	*random ^= *random >> 27;
	return *random * UINT64_C(2685821657736338717);
}

/* In a heap block of exactly its size, so that ASan sees a step beyond it. */
static void run(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(MAX(size, 1));

	ASSERT(copy != NULL);
	memcpy(copy, bytes, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void run_damaged(uint8_t *bytes, size_t size, uint32_t rounds)
{
	uint64_t random = size + 1;

	for (size_t cut = 0; cut < MIN(size, rounds); cut++)
		run(bytes, cut);
	for (uint32_t round = 0; size > 0 && round < rounds; round++) {
		uint8_t *at = &bytes[next_random(&random) % size];
		uint8_t was = *at;

		*at = (uint8_t)(next_random(&random) >> 56);
		run(bytes, size);
		if (round % 4 != 0)
			*at = was; /* a quarter of the damage stays */
	}
}

static int run_file(const char *folder, const char *name, uint32_t rounds, uint8_t *bytes)
{
	char path[1024];
	size_t size;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "rb");
	if (file == NULL) {
		perror(path);
		return -1;
	}
	size = fread(bytes, 1, FILE_MAX, file);
	fclose(file);
	run(bytes, size);
	run_damaged(bytes, size, rounds);
	return 0;
}

int main(int argc, char **argv)
{
	uint8_t *bytes = malloc(FILE_MAX);
	struct dirent *entry;
	uint32_t count = 0;
	uint32_t rounds;
	DIR *folder;

	if (argc != 3 || bytes == NULL) {
		fprintf(stderr, "usage: replay_TARGET FOLDER ROUNDS\n");
		return 2;
	}
	rounds = (uint32_t)strtoul(argv[2], NULL, 10);
	folder = opendir(argv[1]);
	if (folder == NULL) {
		perror(argv[1]);
		return 1;
	}
	while ((entry = readdir(folder)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (run_file(argv[1], entry->d_name, rounds, bytes) < 0)
			return 1;
		count++;
	}
	closedir(folder);
	free(bytes);
	printf("%u files\n", count);
	return count > 0 ? 0 : 1;
}
