/*
 * disk.c - ext4 in a file, by libext2fs; loop devices, by ioctl(2) as loop(4) tells.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include <ext2fs/ext2fs.h>

#include "disk.h"

enum { BLOCK = DISK_STEP, BYTES_PER_INODE = 16384, ATTACH_TRIES = 100 };

/* ---- the file system -------------------------------------------------------------------- */

/*
 * What mkfs.ext4 does, with the library it is made of. To run the program itself would make a child of the daemon's, whose signals and exit status are not
 * ours to take. Two differences: a new volume has no lost+found, as many programs want an empty directory for their data (e2fsck makes one when it needs it),
 * and no blocks are kept back for root, who is the usual user here.
 */
static void describe_ext4(struct ext2_super_block *super, uint64_t bytes)
{
	memset(super, 0, sizeof *super);
	super->s_rev_level = EXT2_DYNAMIC_REV;
	super->s_log_block_size = 2;            /* BLOCK */
	super->s_inode_size = 256;
	super->s_inodes_count = (uint32_t)(bytes / BYTES_PER_INODE);
	super->s_log_groups_per_flex = 4;
	super->s_errors = EXT2_ERRORS_RO;
	ext2fs_blocks_count_set(super, bytes / BLOCK);
	ext2fs_set_feature_journal(super);
	ext2fs_set_feature_dir_index(super);
	ext2fs_set_feature_xattr(super);
	ext2fs_set_feature_filetype(super);
	ext2fs_set_feature_extents(super);
	ext2fs_set_feature_flex_bg(super);
	ext2fs_set_feature_sparse_super(super);
	ext2fs_set_feature_large_file(super);
	ext2fs_set_feature_huge_file(super);
	ext2fs_set_feature_dir_nlink(super);
	ext2fs_set_feature_extra_isize(super);
	ext2fs_set_feature_metadata_csum(super);
}

/* Identity, and seeds of hashes and checksums; before the first checksum is made. */
static errcode_t give_identity(ext2_filsys fs)
{
	uint8_t random[32];
	if (getrandom(random, sizeof random, 0) != sizeof random)
		return errno;
	memcpy(fs->super->s_uuid, random, 16);
	fs->super->s_uuid[6] = (fs->super->s_uuid[6] & 0x0f) | 0x40;    /* a random UUID, as RFC 9562 has it */
	fs->super->s_uuid[8] = (fs->super->s_uuid[8] & 0x3f) | 0x80;
	memcpy(fs->super->s_hash_seed, random + 16, 16);
	fs->super->s_def_hash_version = EXT2_HASH_HALF_MD4;
	fs->super->s_max_mnt_count = -1;                /* no check by count of mounts: nobody could run it */
	fs->super->s_checksum_type = EXT2_CRC32C_CHKSUM;
	fs->super->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
	ext2fs_init_csum_seed(fs);
	return 0;
}

/* The file is one hole, so inode tables and journal are zero as they are. */
static errcode_t lay_out(ext2_filsys fs)
{
	errcode_t rc = ext2fs_allocate_tables(fs);
	if (rc)
		return rc;
	for (dgrp_t group = 0; group < fs->group_desc_count; group++) {
		ext2fs_bg_flags_set(fs, group, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(fs, group);
	}
	rc = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL);
	for (ext2_ino_t inode = EXT2_BAD_INO; rc == 0 && inode < EXT2_FIRST_INODE(fs->super); inode++) {
		if (inode != EXT2_ROOT_INO)
			ext2fs_inode_alloc_stats2(fs, inode, +1, 0);
	}
	if (rc)
		return rc;
	ext2fs_mark_ib_dirty(fs);
	return ext2fs_add_journal_inode(fs, (blk_t)ext2fs_default_journal_size(ext2fs_blocks_count(fs->super)), EXT2_MKJOURNAL_LAZYINIT);
}

/* Fails with errno set. */
static int make_ext4(const char *path, uint64_t bytes)
{
	struct ext2_super_block super;
	ext2_filsys fs = NULL;
	describe_ext4(&super, bytes);
	errcode_t rc = ext2fs_initialize(path, 0, &super, unix_io_manager, &fs);
	if (rc == 0)
		rc = give_identity(fs);
	if (rc == 0)
		rc = lay_out(fs);
	if (rc == 0)
		rc = ext2fs_close_free(&fs);            /* writes all that is not written yet */
	if (fs)
		ext2fs_free(fs);
	errno = rc < 4096 ? (int)rc : EINVAL;           /* errno's codes are small, the library's own are large */
	return rc ? -1 : 0;
}

/* ---- the image ---------------------------------------------------------------------------- */

int disk_make(int dir, const char *name, uint64_t bytes, struct gantry_error *err)
{
	/* A file without a name until all of it is on the disk. If we die before, the kernel removes it. */
	int image = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (image < 0)
		return gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: make its image", name);
	char path[32];
	snprintf(path, sizeof path, "/proc/self/fd/%d", image);
	int rc = 0;
	if (ftruncate(image, (off_t)bytes) < 0)
		rc = gantry_fail_errno(err, GANTRY_E_INVALID, errno, "volume %s: an image of %llu bytes", name, (unsigned long long)bytes);
	else if (make_ext4(path, bytes) < 0)
		rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: make ext4 in its image", name);
	else if (fsync(image) < 0 || (linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST) || fsync(dir) < 0)
		rc = gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: keep its image", name);
	close(image);
	return rc;
}

/* ---- the loop device ---------------------------------------------------------------------- */

/* Whether the last part of the path that the device shows is `name`. A device that shows nothing has no such file. */
static bool shows_name(unsigned number, const char *name)
{
	char path[64], file[4096];
	snprintf(path, sizeof path, "/sys/block/loop%u/loop/backing_file", number);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, file, sizeof file - 1);
	if (fd >= 0)
		close(fd);
	file[len > 0 ? len : 0] = '\0';
	file[strcspn(file, "\n")] = '\0';
	const char *slash = strrchr(file, '/');
	return slash && strcmp(slash + 1, name) == 0;
}

/* The device that shows the image, open, with what it tells of itself; -1 where there is none. Names only spare a look at devices of others: the file is known by its
 * inode, as what the path before the name is depends on who looks. As long as the descriptor is open, the device stays what it is. */
static int find_device(const struct stat *image, const char *name, char device[DISK_DEVICE_MAX], struct loop_info64 *info)
{
	DIR *dir = opendir("/sys/block");
	int found = -1;
	for (struct dirent *entry; found < 0 && dir && (entry = readdir(dir));) {
		unsigned number;
		if (sscanf(entry->d_name, "loop%u", &number) != 1 || !shows_name(number, name))
			continue;
		snprintf(device, DISK_DEVICE_MAX, "/dev/loop%u", number);
		found = open(device, O_RDWR | O_CLOEXEC);
		if (found >= 0 && (ioctl(found, LOOP_GET_STATUS64, info) < 0 || info->lo_device != image->st_dev || info->lo_inode != image->st_ino)) {
			close(found);
			found = -1;
		}
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A free device is anybody's until it is configured, hence the tries. Without LO_FLAGS_AUTOCLEAR it stays when we close it: the container mounts it later. */
static int fresh_device(int image, const char *name, char device[DISK_DEVICE_MAX], struct gantry_error *err)
{
	struct loop_config config = { .fd = (uint32_t)image, .info.lo_flags = LO_FLAGS_DIRECT_IO };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1, rc = -1;
	if (control < 0)
		return gantry_fail_errno(err, GANTRY_E_UNSUPPORTED, errno, "volume %s: open /dev/loop-control", name);
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", name);
	for (int tries = 0; rc < 0 && tries < ATTACH_TRIES; tries++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0)
			break;
		snprintf(device, DISK_DEVICE_MAX, "/dev/loop%d", number);
		fd = open(device, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			break;
		rc = ioctl(fd, LOOP_CONFIGURE, &config);
		int failure = errno;
		close(fd);
		errno = failure;
		if (rc < 0 && failure != EBUSY)
			break;
	}
	int failure = errno;
	close(control);
	return rc == 0 ? 0 : gantry_fail_errno(err, GANTRY_E_UNAVAILABLE, failure, "volume %s: get a loop device", name);
}

/* A device that was to go once unmounted is wanted again. */
static int keep_device(int fd, const char *name, struct loop_info64 *info, struct gantry_error *err)
{
	if (!(info->lo_flags & LO_FLAGS_AUTOCLEAR))
		return 0;
	info->lo_flags &= ~(uint32_t)LO_FLAGS_AUTOCLEAR;
	return ioctl(fd, LOOP_SET_STATUS64, info) == 0 ? 0 : gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: keep its loop device", name);
}

static int open_image(int dir, const char *name, struct stat *image)
{
	int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, image) == 0 && S_ISREG(image->st_mode))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

int disk_attach(int dir, const char *name, char device[DISK_DEVICE_MAX], struct gantry_error *err)
{
	struct stat about;
	struct loop_info64 info;
	int image = open_image(dir, name, &about);
	if (image < 0)
		return gantry_fail(err, GANTRY_E_NOT_FOUND, "volume %s: there is none of that name", name);
	int fd = find_device(&about, name, device, &info), rc = fd < 0 ? fresh_device(image, name, device, err) : keep_device(fd, name, &info, err);
	if (fd >= 0)
		close(fd);
	close(image);
	return rc;
}

int disk_detach(int dir, const char *name, struct gantry_error *err)
{
	struct stat about;
	char device[DISK_DEVICE_MAX];
	struct loop_info64 info;
	if (fstatat(dir, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	int fd = find_device(&about, name, device, &info);
	if (fd < 0)
		return 0;
	/* As long as it is mounted, this only marks it: it goes with its last user. */
	int rc = ioctl(fd, LOOP_CLR_FD) == 0 || errno == ENXIO ? 0 : gantry_fail_errno(err, GANTRY_E_INTERNAL, errno, "volume %s: give %s back", name, device);
	close(fd);
	return rc;
}

bool disk_device(const struct stat *image, const char *name, char device[DISK_DEVICE_MAX])
{
	struct loop_info64 info;
	int fd = find_device(image, name, device, &info);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}
