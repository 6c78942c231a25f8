/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: the media of the server's configuration, as start would meet them. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "../base/text.h"
#include "../store/inspect.h"
#include "doctor.h"

/* queue/NAME of a device; a partition's stands at its disk. */
static const char *queue_line(dev_t device, const char *name, char *buf, size_t buf_size)
{
	static const char *const places[] = { "queue", "../queue" };
	char path[128];

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(device),
			 minor(device), places[i], name);
		if (doctor_line(path, buf, buf_size)[0] != '\0')
			break;
	}
	return buf;
}

static void disk_look(struct doctor *doctor, dev_t device)
{
	struct doctor_disk disk = { .is_rotational = -1 };
	struct doctor_row rows[3];
	char line[8];
	uint32_t count;

	queue_line(device, "scheduler", disk.scheduler, sizeof(disk.scheduler));
	queue_line(device, "write_cache", disk.write_cache, sizeof(disk.write_cache));
	queue_line(device, "rotational", line, sizeof(line));
	if (line[0] != '\0')
		disk.is_rotational = line[0] == '1';
	count = doctor_judge_disk(&disk, rows);
	for (uint32_t i = 0; i < count; i++)
		doctor_add(doctor, &rows[i]);
}

/* True when the path can be a medium. */
static bool place_look(struct doctor *doctor, const char *path)
{
	struct statfs fs;
	struct stat st;

	if (stat(path, &st) < 0) {
		doctor_say(doctor, DOCTOR_FAIL, "medium",
			   "is the drive in? 'ctxkv setup PATH --size SIZE' makes a new one",
			   "%s: %s", path, err_str(errno));
		return false;
	}
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode)) {
		doctor_say(doctor, DOCTOR_FAIL, "medium", "name a device, a partition or a file",
			   "%s is neither", path);
		return false;
	}
	if (access(path, R_OK | W_OK) < 0) {
		doctor_say(doctor, DOCTOR_FAIL, "medium",
			   "give it to the user that runs ctxkv (chown; for a device a udev rule)",
			   "%s cannot be read and written by this user", path);
		return false;
	}
	if (S_ISREG(st.st_mode) && statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		doctor_say(doctor, DOCTOR_WARN, "medium",
			   "a file on a drive keeps its blocks; else 'memory' says what it is",
			   "%s is on tmpfs: a reboot loses it", path);
	disk_look(doctor, S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev);
	return true;
}

static void label_say(struct doctor *doctor, const char *path, const struct inspect_medium *medium)
{
	char size[32];
	char server[33];

	text_format_size(size, sizeof(size), medium->label.size);
	text_format_hex(server, sizeof(server), medium->label.server, 16);
	if (medium->labels[0] == INSPECT_DAMAGED || medium->labels[1] == INSPECT_DAMAGED)
		doctor_say(doctor, DOCTOR_WARN, "medium",
			   "the next start writes it again; 'ctxkv drive check' reads everything",
			   "%s: one of the two copies of its label is damaged", path);
	doctor_say(doctor, DOCTOR_OK, "medium", "", "%s: %s of server %s%s", path, size, server,
		   medium->is_in_use ? ", in use by a running server" : "");
	if (!medium->info.is_direct)
		doctor_say(doctor, DOCTOR_WARN, "direct I/O",
			   "use a file system with O_DIRECT (ext4, xfs), or the raw device",
			   "%s: not on this file system; blocks go through the page cache", path);
}

/* False: start would not open it, which was said. */
static bool medium_look(struct doctor *doctor, const char *path, struct medium_info *info_out)
{
	struct inspect *inspect = NULL;
	char message[256] = "";

	if (!place_look(doctor, path))
		return false;
	if (inspect_open(doctor->env, path, &inspect, message) < 0) {
		doctor_say(doctor, DOCTOR_FAIL, "medium", "", "%s", message);
		return false;
	}
	label_say(doctor, path, inspect_medium(inspect));
	doctor->is_running |= inspect_medium(inspect)->is_in_use;
	*info_out = inspect_medium(inspect)->info;
	inspect_close(&inspect);
	return true;
}

void doctor_media(struct doctor *doctor)
{
	const char *paths[SERVER_MEDIUM_MAX];
	char list[OPT_TEXT_MAX];
	char size[32];
	int count;

	if (doctor->server->media[0] == '\0') {
		doctor_say(doctor, DOCTOR_OK, "medium", "", "none: memory mode, %s",
			   text_format_size(size, sizeof(size), doctor->server->memory));
		return;
	}
	snprintf(list, sizeof(list), "%s", doctor->server->media);
	count = cmd_list_cut(list, paths, SERVER_MEDIUM_MAX);
	if (count < 0)
		doctor_say(doctor, DOCTOR_FAIL, "medium",
			   "leave some out of 'media' in server.yaml",
			   "a server has at most %d media", SERVER_MEDIUM_MAX);
	for (int i = 0; i < count; i++)
		doctor->is_missing[i] = !medium_look(doctor, paths[i], &doctor->media[i]);
}
