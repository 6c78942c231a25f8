/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drive of a rig: real, but its commands can be held, ended with an error, or looked at while
 * they wait. One a program.
 */
#ifndef TEST_SERVER_DRIVE_H
#define TEST_SERVER_DRIVE_H

#include "rig.h"

#define HELD_MAX 64

struct drive {
	const struct env_ops *real;
	struct env_ops ops;
	bool is_holding;
	enum env_io_kind holds; /* commands of this kind */
	struct env_io *held[HELD_MAX];
	uint32_t count;
};

extern struct drive drive;

/* Between rig_init() and rig_start(). */
void drive_init(struct rig *rig);
void drive_hold(enum env_io_kind kind);
/* The one that is held longest is done; the others stay, and more are held. */
void drive_go_one(struct rig *rig);
/* Let all go: rc 0, they are done; else they fail so. */
void drive_go(struct rig *rig, int rc);

#endif
