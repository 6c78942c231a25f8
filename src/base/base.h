/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every file may use: sizes, assertions, error codes. Depends on nothing.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KiB       (UINT64_C(1) << 10)
#define MiB       (UINT64_C(1) << 20)
#define GiB       (UINT64_C(1) << 30)

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* Unit of direct I/O: record headers and payloads start on it. */
#define PAGE_SIZE    UINT64_C(4096)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)    ((a) < (b) ? (a) : (b))
#define MAX(a, b)    ((a) > (b) ? (a) : (b))

/* The struct that contains *ptr as its member. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define MUST_USE                        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a)               __attribute__((format(printf, f, a)))

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "wire and disk structs are overlaid");

/*
 * Called when an invariant of our own is broken: prints place and condition, then aborts. The
 * client library installs a hook first (it may not abort the engine's process); a hook does not
 * return.
 */
_Noreturn void base_panic(const char *file, int line, const char *what);
void base_panic_hook_set(void (*hook)(const char *file, int line, const char *what));

/* A broken invariant of our own. On in every build: a wrong cache is worse than a dead one. */
#define ASSERT(c) ((c) ? (void)0 : base_panic(__FILE__, __LINE__, #c))

/* The same, for checks that cost more than O(1). On in debug, test and sim builds. */
#ifdef CTXKV_SLOW_CHECKS
#define ASSERT_SLOW(c) ASSERT(c)
#else
#define ASSERT_SLOW(c) ((void)sizeof(c))
#endif

/* Each long-lived struct starts with a magic; check it wherever a pointer arrives untyped. */
#define CHECK_OBJ(p, m) (ASSERT((p) != NULL), ASSERT((p)->magic == (m)))

enum err_class { ERR_CLASS_OS, ERR_CLASS_MISS, ERR_CLASS_RETRY, ERR_CLASS_SETUP };

/* Positive values of our own codes; functions return them negated, like errno values. */
enum {
#define ERR(name, value, class, text) ERR_##name = (value),
#include "../tbl/errors.def"
#undef ERR
};

/* Static text of a code (negative or positive). Never NULL. */
const char *err_str(int code);
enum err_class err_class_of(int code);

static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static inline uint64_t round_down(uint64_t value, uint64_t unit)
{
	return value / unit * unit;
}

static inline bool is_power_of_2(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

#endif
