/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: which transports are in this binary, best first. */
#include "xprt.h"

const struct xprt_ops *const xprt_list[] = { &xprt_shm, &xprt_tcp, &xprt_loop };
const size_t xprt_count = ARRAY_LEN(xprt_list);
