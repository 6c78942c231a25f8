/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a simulation program: which seeds, how loud, how many processes. */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "sim.h"

/* Play scenario for the seeds that the arguments name; returns the exit status. scenario gets an
 * initialised sim, leaves nothing behind but sim->trace, and speaks through sim_fail(). */
int run_main(int argc, char **argv, void (*scenario)(struct sim *sim));

#endif
