/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "../../include/ctxkv.h"
#include "../store/format.h"
#include "../tbl/metrics.h"
#include "../wire/wire.h"
#include "cmd.h"

int cmd_version(struct options *options, const struct opt_set *set)
{
	(void)set;
	if (options->reference) {
		options_reference(stdout);
		return EXIT_DONE;
	}
	if (options->reference_metrics) {
		metrics_reference(stdout);
		return EXIT_DONE;
	}
	if (options->man) {
		cmd_man_print(stdout);
		return EXIT_DONE;
	}
	printf(options->json ? "{\"version\": \"%s\", \"protocol\": %d, \"disk\": %d}\n"
			     : "ctxkv %s, protocol %d, disk format %d\n",
	       ctxkv_version(), WIRE_VERSION, DISK_VERSION);
	return EXIT_DONE;
}
