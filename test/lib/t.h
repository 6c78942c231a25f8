/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka.h wants these before it, in whatever order a formatter sorts a test's own includes. */
#ifndef TEST_LIB_T_H
#define TEST_LIB_T_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
