/* SPDX-License-Identifier: Apache-2.0 */
/* The first 32 bytes of a connection. */
#include <string.h>

#include "../../src/wire/wire.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct wire_preface preface;

	if (size < sizeof(preface))
		return 0;
	memcpy(&preface, bytes, sizeof(preface));
	if (wire_check_preface(&preface) < 0)
		return 0;
	ASSERT(preface.version_min <= WIRE_VERSION);
	ASSERT(preface.version_max >= WIRE_VERSION_MIN);
	ASSERT((preface.mode == WIRE_MODE_JOIN) == (preface.session != 0));
	return 0;
}
