/* SPDX-License-Identifier: Apache-2.0 */
#include "back_end.h"

#include <stdio.h>

static enum env_choice choice = ENV_CHOICE_POSIX;

int back_end_create(const struct env_posix_opts *opts, struct env **env_out)
{
	char message[ENV_TEXT_SIZE];

	return env_open(choice, opts, env_out, message);
}

int back_end_begin(void **state)
{
	const struct env_posix_opts opts = { .sock_max = 4, .io_thread_count = 1 };
	struct env *env = NULL;
	int rc = back_end_create(&opts, &env);

	*state = env;
	return rc;
}

int back_end_end(void **state)
{
	struct env *env = *state;

	env_close(&env);
	return 0;
}

bool back_end_is_uring(void)
{
	return choice == ENV_CHOICE_URING;
}

static bool is_available(char message[ENV_TEXT_SIZE])
{
	const struct env_posix_opts opts = { .io_thread_count = 1, .sock_max = 1 };
	struct env *env = NULL;
	int rc = env_open(choice, &opts, &env, message);

	env_close(&env);
	return rc == 0;
}

int back_ends_run(int (*run)(const char *back_end))
{
	char message[ENV_TEXT_SIZE];
	int failed;

	choice = ENV_CHOICE_POSIX;
	failed = run("posix");
	choice = ENV_CHOICE_URING;
	if (is_available(message))
		failed += run("uring");
	else
		printf("uring is passed over: %s\n", message);
	return failed;
}
