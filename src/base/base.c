/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void (*panic_hook)(const char *file, int line, const char *what);

void base_panic_hook_set(void (*hook)(const char *file, int line, const char *what))
{
	panic_hook = hook;
}

_Noreturn void base_panic(const char *file, int line, const char *what)
{
	if (panic_hook != NULL)
		panic_hook(file, line, what);
	fprintf(stderr, "panic: %s:%d: %s\n", file, line, what);
	abort();
}

const char *err_str(int code)
{
	const char *text;

	switch (code < 0 ? -code : code) {
	case 0:
		return "ok";
#define ERR(name, value, class, text)                                                              \
	case value:                                                                                \
		return text;
#include "../tbl/errors.def"
#undef ERR
	default:
		text = strerrordesc_np(code < 0 ? -code : code);
		return text != NULL ? text : "unknown error";
	}
}

enum err_class err_class_of(int code)
{
	switch (code < 0 ? -code : code) {
#define ERR(name, value, class, text)                                                              \
	case value:                                                                                \
		return ERR_CLASS_##class;
#include "../tbl/errors.def"
#undef ERR
	default:
		return ERR_CLASS_OS;
	}
}
