/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in admin requests, parsed: the token, the body of a drop. Pure. */
#ifndef ADMIN_PARAMS_H
#define ADMIN_PARAMS_H

#include "../server/query.h"

#define ADMIN_TOKEN_MIN 32 /* characters: 128 bits in hex */
#define ADMIN_TOKEN_MAX 256

/* The token in the text of its file: the first line that is neither empty nor a comment (#). 0, or
 * -EINVAL and a sentence. */
int admin_token_parse(const char *text, char token_out[ADMIN_TOKEN_MAX + 1],
		      char message_out[256]) MUST_USE;

/* Whether an Authorization header ("Bearer TOKEN"; NULL: there was none) brings the token. How long
 * it takes tells at most how long the token is. */
bool admin_token_is_in(const char *header, const char *token);

/*
 * {"domain": NAME, "namespace": TEXT | "namespace_id": 32 hex digits [, "key": 64 hex digits]}.
 * The name of a tenant is that of its own domain. 0, or -EINVAL and a sentence.
 */
int admin_drop_parse(const char *text, size_t size, struct query_drop *drop_out,
		     char message_out[256]) MUST_USE;

#endif
