/* SPDX-License-Identifier: Apache-2.0 */
#include "drive.h"

#include <string.h>

struct drive drive;

static void drive_submit(struct env *env, struct env_io *io)
{
	if (!drive.is_holding || io->kind != drive.holds) {
		drive.real->blk_submit(env, io);
		return;
	}
	assert_true(drive.count < HELD_MAX);
	drive.held[drive.count++] = io;
}

void drive_init(struct rig *rig)
{
	drive = (struct drive) { .real = rig->env->ops, .ops = *rig->env->ops };
	drive.ops.blk_submit = drive_submit;
	rig->env->ops = &drive.ops;
}

void drive_hold(enum env_io_kind kind)
{
	drive.is_holding = true;
	drive.holds = kind;
}

void drive_go_one(struct rig *rig)
{
	struct env_io *io = drive.held[0];

	assert_true(drive.count > 0);
	drive.count--;
	memmove(&drive.held[0], &drive.held[1], drive.count * sizeof(drive.held[0]));
	drive.real->blk_submit(rig->env, io);
}

void drive_go(struct rig *rig, int rc)
{
	uint32_t count = drive.count;

	drive.is_holding = false;
	drive.count = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct env_io *io = drive.held[i];

		if (rc == 0) {
			drive.real->blk_submit(rig->env, io);
			continue;
		}
		io->result = rc;
		io->done(io);
	}
}
