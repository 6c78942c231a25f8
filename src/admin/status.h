/* SPDX-License-Identifier: Apache-2.0 */
/* A view as JSON. Pure. docs/operating/admin.md lists the members. */
#ifndef ADMIN_STATUS_H
#define ADMIN_STATUS_H

#include <jansson.h>

#include "view.h"

/* Each returns a new object, or NULL when memory is short. */
json_t *status_json(const struct view *view);
json_t *status_sessions_json(const struct view *view);
json_t *status_tenants_json(const struct view *view);
/* Every namespace that has blocks or was reported to. */
json_t *status_savings_json(const struct view *view);

#endif
