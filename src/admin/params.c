/* SPDX-License-Identifier: Apache-2.0 */
#include "params.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "../wire/keyfile.h"

#define BEARER        "Bearer "
#define NAMESPACE_MAX 2048 /* characters of its text */

int admin_token_parse(const char *text, char token_out[ADMIN_TOKEN_MAX + 1], char message_out[256])
{
	size_t size = 0;

	for (; *text != '\0'; text += text[0] == '\n') {
		size = strcspn(text, "\r\n");
		if (size > 0 && text[0] != '#')
			break;
		text += strcspn(text, "\n");
		size = 0;
	}
	for (size_t i = 0; i < size; i++) {
		if (text[i] <= ' ' || text[i] > '~') {
			snprintf(message_out, 256,
				 "a token has printable characters only, no blanks");
			return -EINVAL;
		}
	}
	if (size < ADMIN_TOKEN_MIN || size > ADMIN_TOKEN_MAX) {
		snprintf(message_out, 256, "a token has %d to %d characters; this one has %zu",
			 ADMIN_TOKEN_MIN, ADMIN_TOKEN_MAX, size);
		return -EINVAL;
	}
	memcpy(token_out, text, size);
	token_out[size] = '\0';
	return 0;
}

bool admin_token_is_in(const char *header, const char *token)
{
	if (header == NULL || strncmp(header, BEARER, strlen(BEARER)) != 0)
		return false;
	header += strlen(BEARER);
	return strlen(header) == strlen(token) && CRYPTO_memcmp(header, token, strlen(token)) == 0;
}

/* --- drop --- */

/* What a drop may say, borrowed from its JSON. */
struct drop_text {
	const char *domain;
	const char *ns;
	const char *ns_id;
	const char *key;
};

static int drop_read(json_t *body, struct drop_text *out, char message_out[256])
{
	json_error_t error;

	*out = (struct drop_text) { 0 };
	if (json_unpack_ex(body, &error, JSON_STRICT, "{s?s, s?s, s?s, s?s}", "domain",
			   &out->domain, "namespace", &out->ns, "namespace_id", &out->ns_id, "key",
			   &out->key) != 0) {
		snprintf(message_out, 256, "%.200s", error.text);
		return -EINVAL;
	}
	return 0;
}

static int drop_fill(const struct drop_text *in, struct query_drop *drop, char message_out[256])
{
	if (in->domain == NULL || !keyfile_is_tenant(in->domain)) {
		snprintf(message_out, 256, "domain must name a tenant or a shared domain");
		return -EINVAL;
	}
	auth_domain_id(in->domain, drop->domain);
	if ((in->ns == NULL) == (in->ns_id == NULL)) {
		snprintf(message_out, 256, "name a namespace or a namespace_id, one of them");
		return -EINVAL;
	}
	if (in->ns != NULL && (in->ns[0] == '\0' || strlen(in->ns) > NAMESPACE_MAX)) {
		snprintf(message_out, 256, "namespace must have 1 to %d characters", NAMESPACE_MAX);
		return -EINVAL;
	}
	if (in->ns != NULL)
		auth_namespace_id(in->ns, drop->ns);
	else if (text_parse_hex(in->ns_id, drop->ns, sizeof(drop->ns)) < 0) {
		snprintf(message_out, 256, "namespace_id must be 32 hex digits");
		return -EINVAL;
	}
	drop->is_namespace = in->key == NULL;
	if (in->key != NULL && text_parse_hex(in->key, drop->key, sizeof(drop->key)) < 0) {
		snprintf(message_out, 256, "key must be 64 hex digits");
		return -EINVAL;
	}
	return 0;
}

int admin_drop_parse(const char *text, size_t size, struct query_drop *drop_out,
		     char message_out[256])
{
	struct query_drop drop = { 0 };
	struct drop_text in;
	json_error_t error;
	json_t *body = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	int rc;

	if (!json_is_object(body)) {
		snprintf(message_out, 256, "the body must be a JSON object%s%.200s",
			 body == NULL ? ": " : "", body == NULL ? error.text : "");
		json_decref(body);
		return -EINVAL;
	}
	rc = drop_read(body, &in, message_out);
	if (rc == 0)
		rc = drop_fill(&in, &drop, message_out);
	json_decref(body);
	if (rc == 0)
		*drop_out = drop;
	return rc;
}
