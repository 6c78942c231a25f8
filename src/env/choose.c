/* SPDX-License-Identifier: Apache-2.0 */
#include "choose.h"

#include <stdio.h>

#include "../base/text.h"
#include "uring/uring.h"

int env_open(enum env_choice choice, const struct env_posix_opts *opts, struct env **env_out,
	     char message_out[ENV_TEXT_SIZE])
{
	char why[ENV_TEXT_SIZE - 16] = "";
	int rc;

	message_out[0] = '\0';
	if (choice == ENV_CHOICE_POSIX)
		return env_posix_create(opts, env_out);
	rc = env_uring_create(opts, env_out, why, sizeof(why));
	if (rc != -EOPNOTSUPP)
		return rc;
	snprintf(message_out, ENV_TEXT_SIZE, "io_uring: %s", why);
	return choice == ENV_CHOICE_AUTO ? env_posix_create(opts, env_out) : rc;
}

void env_close(struct env **env)
{
	if (*env != NULL && env_is_uring(*env))
		env_uring_destroy(env);
	else
		env_posix_destroy(env);
}

const char *env_describe(struct env *env, char text_out[ENV_TEXT_SIZE])
{
	char size[32];

	if (!env_is_uring(env))
		snprintf(text_out, ENV_TEXT_SIZE, "%s", env->ops->name);
	else if (env_uring_registered(env) == 0)
		snprintf(text_out, ENV_TEXT_SIZE, "%s, no buffers registered", env->ops->name);
	else
		snprintf(text_out, ENV_TEXT_SIZE, "%s, %s of buffers registered", env->ops->name,
			 text_format_size(size, sizeof(size), env_uring_registered(env)));
	return text_out;
}
