/* SPDX-License-Identifier: Apache-2.0 */
/* A view as the text that Prometheus scrapes (text format 0.0.4). Pure. */
#ifndef ADMIN_SCRAPE_H
#define ADMIN_SCRAPE_H

#include <stdio.h>

#include "view.h"

void scrape_print(FILE *out, const struct view *view);

#endif
