/* SPDX-License-Identifier: Apache-2.0 */
/* A client URL. What is accepted has a host, and a tenant that is one; a refusal says why. */
#include <stdlib.h>
#include <string.h>

#include "../../src/client/url.h"
#include "../../src/wire/keyfile.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	char message[URL_MESSAGE_SIZE] = "";
	struct url url = { .host_count = 0 };
	char *text = malloc(size + 1);
	int rc;

	ASSERT(text != NULL);
	memcpy(text, bytes, size);
	text[size] = '\0';
	rc = url_parse(text, &url, message);
	if (rc < 0) {
		ASSERT(rc == -ERR_URL);
		ASSERT(strlen(message) > 0);
	} else {
		ASSERT(url.host_count > 0);
		ASSERT(url.host_count <= HOST_MAX);
		for (uint32_t i = 0; i < url.host_count; i++)
			ASSERT(strlen(url.hosts[i].host) > 0);
		ASSERT(url.tenant[0] == '\0' || keyfile_is_tenant(url.tenant));
	}
	free(text);
	return 0;
}
