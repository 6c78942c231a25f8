/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structs of wire.h are laid out as layout.def says: what does not compile here would not be
 * understood by others.
 */
#include "wire.h"

#define AT(type, field, offset)                                                                    \
	_Static_assert(offsetof(struct type, field) == (offset), "wire format: " #type "." #field);
#define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), "wire format: " #type);
#include "layout.def"
