/*
 * test_runtime_spec.c - config.json to structs, and users out of a container's own files. Sources: OCI runtime-spec config.md and config-linux.md; Docker's
 * documentation of --user and --group-add.
 */
#include "testing.h"

#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/internal.h"

#define ROOT "{\"destination\":\"/\",\"type\":\"overlay\",\"source\":\"overlay\"}"
#define MNT_NS "\"namespaces\":[{\"type\":\"mount\"}]"

/* A bundle around the parts of interest; NULL: what is needed at least. */
static json_t *bundle(const char *mounts, const char *linux_part)
{
	AUTO_FREE char *text = gt_xasprintf("{\"process\":{\"args\":[\"x\"]},\"mounts\":[%s%s%s],\"linux\":{%s}}", ROOT, mounts ? "," : "", mounts ? mounts : "",
					    linux_part ? linux_part : MNT_NS);
	struct gt_error err = { 0 };
	json_t *config = gt_json_parse(text, strlen(text), "test", &err);
	if (!config)
		fail_msg("%s: %s", err.message, text);
	return config;
}

/* ---- mounts ---- */

static void mount_options_become_attributes_and_data(void **state)
{
	(void)state;
	static const struct {
		const char *type, *options;
		uint64_t set, clear, set_all, clear_all;
		const char *data; /* joined by commas */
	} CASES[] = {
		{ "tmpfs", "", 0, 0, 0, 0, "" },
		{ "tmpfs", "\"nosuid\",\"noexec\",\"nodev\",\"mode=755\",\"size=64k\"", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV, 0, 0, 0,
		  "mode=755,size=64k" },
		{ "bind", "\"ro\"", MOUNT_ATTR_RDONLY, 0, 0, 0, "" },
		{ "bind", "\"rw\"", 0, MOUNT_ATTR_RDONLY, 0, 0, "" },
		{ "bind", "\"ro\",\"rw\"", 0, MOUNT_ATTR_RDONLY, 0, 0, "" },
		{ "bind", "\"rw\",\"ro\"", MOUNT_ATTR_RDONLY, 0, 0, 0, "" },
		{ "bind", "\"rro\"", 0, 0, MOUNT_ATTR_RDONLY, 0, "" },
		{ "bind", "\"rro\",\"rrw\"", 0, 0, 0, MOUNT_ATTR_RDONLY, "" },
		{ "bind", "\"noatime\"", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0, 0, "" },
		{ "bind", "\"noatime\",\"strictatime\"", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, 0, 0, "" },
		{ "bind", "\"strictatime\",\"relatime\"", 0, MOUNT_ATTR__ATIME, 0, 0, "" },
		{ "bind", "\"rnoatime\"", 0, 0, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, "" },
		{ "bind", "\"nosuid\",\"suid\",\"dev\",\"exec\"", 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0, 0, "" },
		{ "bind", "\"nosymfollow\",\"nodiratime\"", MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NODIRATIME, 0, 0, 0, "" },
		{ "tmpfs", "\"defaults\",\"\",\"rubbish\"", 0, 0, 0, 0, "rubbish" },
		{ "overlay", "\"lowerdir=/a:/b\",\"ro\"", MOUNT_ATTR_RDONLY, 0, 0, 0, "lowerdir=/a:/b" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_FREE char *text = gt_xasprintf("{\"destination\":\"/x\",\"type\":\"%s\",\"source\":\"s\",\"options\":[%s]}", CASES[i].type, CASES[i].options);
		AUTO_JSON json_t *config = bundle(text, NULL);
		struct spec spec;
		assert_int_equal(spec_read("/b", config, &spec, NULL), 0);
		const struct spec_mount *mount = &spec.mounts[1];
		AUTO_BUF struct gt_buf data = { 0 };
		for (size_t k = 0; k < mount->data.count; k++)
			gt_buf_printf(&data, "%s%s", k ? "," : "", mount->data.items[k]);
		if (mount->attr_set != CASES[i].set || mount->attr_clear != CASES[i].clear || mount->attr_set_all != CASES[i].set_all ||
		    mount->attr_clear_all != CASES[i].clear_all || strcmp(data.len ? data.data : "", CASES[i].data))
			fail_msg("%s: set %llx clear %llx, all: set %llx clear %llx, data %s", CASES[i].options, (unsigned long long)mount->attr_set,
				 (unsigned long long)mount->attr_clear, (unsigned long long)mount->attr_set_all, (unsigned long long)mount->attr_clear_all,
				 data.len ? data.data : "");
		spec_release(&spec);
	}
}

static void binds_and_propagation_are_told_apart_from_flags(void **state)
{
	(void)state;
	static const struct {
		const char *mount;
		bool bind, recursive, idmap;
		uint64_t propagation;
		const char *subpath;
	} CASES[] = {
		{ "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/s\"}", true, false, false, 0, NULL },
		{ "{\"destination\":\"/x\",\"source\":\"/s\",\"options\":[\"bind\"]}", true, false, false, 0, NULL },
		{ "{\"destination\":\"/x\",\"type\":\"none\",\"source\":\"/s\",\"options\":[\"rbind\",\"rprivate\"]}", true, true, false, 1 << 18 | 16384, NULL },
		{ "{\"destination\":\"/x\",\"type\":\"bind\",\"options\":[\"rbind\",\"rshared\"]}", true, true, false, 1 << 20 | 16384, NULL },
		{ "{\"destination\":\"/x\",\"type\":\"bind\",\"options\":[\"slave\",\"private\"]}", true, false, false, 1 << 18, NULL },
		{ "{\"destination\":\"/x\",\"type\":\"bind\",\"options\":[\"runbindable\"]}", true, false, false, 1 << 17 | 16384, NULL },
		{ "{\"destination\":\"/x\",\"type\":\"bind\",\"options\":[\"idmap\",\"gantry.subpath=a/b\"]}", true, false, true, 0, "a/b" },
		{ "{\"destination\":\"/x\",\"type\":\"bind\",\"uidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":1}]}", true, false, true, 0, NULL },
		{ "{\"destination\":\"/x\",\"type\":\"tmpfs\"}", false, false, false, 0, NULL },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_JSON json_t *config = bundle(CASES[i].mount, NULL);
		struct spec spec;
		assert_int_equal(spec_read("/b", config, &spec, NULL), 0);
		const struct spec_mount *mount = &spec.mounts[1];
		if (mount->bind != CASES[i].bind || mount->recursive != CASES[i].recursive || mount->idmap != CASES[i].idmap ||
		    mount->propagation != CASES[i].propagation || strcmp(mount->subpath ? mount->subpath : "", CASES[i].subpath ? CASES[i].subpath : ""))
			fail_msg("%s", CASES[i].mount);
		spec_release(&spec);
	}
}

static void mounts_of_their_own_file_system_need_no_host(void **state)
{
	(void)state;
	static const char *const OWN[] = { "proc", "sysfs", "devpts", "mqueue", "tmpfs", "cgroup", "cgroup2" }, *const HOST[] = { "overlay", "nfs", "ext4", "bind" };
	for (size_t i = 0; i < GT_COUNT(OWN); i++) {
		assert_false(mount_needs_host(&(struct spec_mount){ .type = OWN[i] }));
		assert_true(mount_needs_host(&(struct spec_mount){ .type = OWN[i], .bind = true }));
	}
	for (size_t i = 0; i < GT_COUNT(HOST); i++)
		assert_true(mount_needs_host(&(struct spec_mount){ .type = HOST[i] }));
}

/* ---- the whole ---- */

static void what_cannot_be_done_is_refused_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *text, *complaint;
	} CASES[] = {
		{ "{}", "no process" },
		{ "[]", "no process" },
		{ "{\"process\":{}}", "linux" },
		{ "{\"process\":[],\"linux\":{}}", "process" },
		{ "{\"process\":{\"terminal\":1},\"linux\":{}}", "terminal" },
		{ "{\"process\":{},\"linux\":{" MNT_NS "}}", "mounts" },
		{ "{\"process\":{},\"mounts\":[],\"linux\":{" MNT_NS "}}", "mounts" },
		{ "{\"process\":{},\"mounts\":[{\"destination\":\"/x\"}],\"linux\":{" MNT_NS "}}", "not the root" },
		{ "{\"process\":{},\"mounts\":[{\"destination\":\"x\"}],\"linux\":{" MNT_NS "}}", "absolute" },
		{ "{\"process\":{},\"mounts\":[{}],\"linux\":{" MNT_NS "}}", "absolute" },
		{ "{\"process\":{},\"mounts\":[7],\"linux\":{" MNT_NS "}}", "absolute" },
		{ "{\"process\":{},\"mounts\":[" ROOT ",{\"destination\":\"/x\",\"options\":\"ro\"}],\"linux\":{" MNT_NS "}}", "options" },
		{ "{\"process\":{},\"mounts\":[" ROOT ",{\"destination\":\"/x\",\"options\":[1]}],\"linux\":{" MNT_NS "}}", "/x" },
		{ "{\"process\":{},\"mounts\":[" ROOT ",{\"destination\":\"/x\",\"options\":[\"ro\",\"rubbish\",\"bind\"]}],\"linux\":{" MNT_NS "}}", NULL },
		{ "{\"process\":{},\"mounts\":[" ROOT ",{\"destination\":\"/x\",\"type\":\"bind\",\"options\":[\"rubbish\"]}],\"linux\":{" MNT_NS "}}", "rubbish" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{}}", "mount namespace" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{\"namespaces\":[{\"type\":\"time\"}]}}", "time" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"mount\"}]}}", "twice" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{\"namespaces\":[{}]}}", "(none)" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{\"namespaces\":[{\"type\":\"mount\",\"path\":\"/proc/1/ns/mnt\"}]}}", "not supported" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"user\",\"path\":\"/x\"}]}}", "user namespace" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"devices\":{}}}", "devices" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"devices\":[{\"path\":\"dev/x\",\"type\":\"c\"}]}}", "absolute" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"devices\":[{\"path\":\"/dev/x\",\"type\":\"x\"}]}}", "unknown type" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"devices\":[{\"path\":\"/dev/x\",\"type\":\"\"}]}}", "unknown type" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"devices\":[{\"path\":\"/dev/x\",\"type\":\"c\",\"major\":-1}]}}", "numbers" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"devices\":[{\"path\":\"/dev/x\",\"type\":\"c\",\"minor\":4294967296}]}}", "numbers" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"maskedPaths\":[\"proc/x\"]}}", "maskedPaths" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"readonlyPaths\":[null]}}", "readonlyPaths" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"rootfsPropagation\":\"loud\"}}", "loud" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"seccomp\":[]}}", "seccomp" },
		{ "{\"process\":{},\"mounts\":[" ROOT "],\"linux\":{" MNT_NS ",\"uidMappings\":[{\"containerID\":\"0\"}]}}", "containerID" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct gt_error err = { 0 };
		AUTO_JSON json_t *config = gt_json_parse(CASES[i].text, strlen(CASES[i].text), "test", &err);
		assert_non_null(config);
		struct spec spec;
		int rc = spec_read("/b", config, &spec, &err);
		if (rc != -1 || (CASES[i].complaint && !strstr(err.message, CASES[i].complaint)))
			fail_msg("%s: %d, %s", CASES[i].text, rc, err.message);
	}
}

static void lists_without_end_are_refused(void **state)
{
	(void)state;
	struct spec spec;
	struct gt_error err = { 0 };
	AUTO_JSON json_t *many_mounts = bundle(NULL, NULL);
	for (int i = 0; i < MAX_MOUNTS; i++)
		json_array_append_new(json_object_get(many_mounts, "mounts"), json_pack("{s:s s:s}", "destination", "/x", "type", "tmpfs"));
	assert_int_equal(spec_read("/b", many_mounts, &spec, &err), -1);
	assert_non_null(strstr(err.message, "1025"));
	AUTO_JSON json_t *many_maps = bundle(NULL, NULL);
	json_t *maps = json_array();
	json_object_set_new(json_object_get(many_maps, "linux"), "uidMappings", maps);
	for (int i = 0; i < 32; i++)
		json_array_append_new(maps, json_pack("{s:i s:i s:i}", "containerID", i, "hostID", i, "size", 1));
	assert_int_equal(spec_read("/b", many_maps, &spec, &err), 0);
	assert_int_equal(spec.uid_map_count, 32);
	assert_int_equal(spec.uid_map[31].outside, 31);
	spec_release(&spec);
	json_array_append_new(maps, json_object());
	assert_int_equal(spec_read("/b", many_maps, &spec, &err), -1);
}

static void the_rest_of_a_bundle_is_read(void **state)
{
	(void)state;
	static const char TEXT[] =
		"{\"process\":{\"terminal\":true,\"oomScoreAdj\":-5},\"hostname\":\"h\",\"domainname\":\"d\",\"root\":{\"readonly\":true},\"mounts\":[" ROOT "],"
		"\"annotations\":{\"org.gantry.user\":\"u:g\",\"org.gantry.group-add\":\"1,2\",\"org.gantry.init\":\"/i\",\"org.gantry.idmap-root\":\"true\"},"
		"\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/proc/1/ns/net\"},{\"type\":\"ipc\",\"path\":\"\"}],"
		"\"cgroupsPath\":\"/gantry/x\",\"rootfsPropagation\":\"rslave\",\"maskedPaths\":[\"/proc/kcore\"],\"readonlyPaths\":null,"
		"\"devices\":[{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":10,\"minor\":229,\"fileMode\":420,\"uid\":1,\"gid\":2},"
		"{\"path\":\"/dev/p\",\"type\":\"p\"},{\"path\":\"/dev/b\",\"type\":\"b\",\"major\":4095,\"minor\":1048575}],\"sysctl\":{\"a.b\":\"1\"}}}";
	struct spec spec;
	AUTO_JSON json_t *config = gt_json_parse(TEXT, strlen(TEXT), "test", NULL);
	assert_int_equal(spec_read("/b", config, &spec, NULL), 0);
	assert_true(spec.terminal && spec.read_only && spec.has_oom_score && spec.idmap_root);
	assert_int_equal(spec.oom_score, -5);
	assert_string_equal(spec.hostname, "h");
	assert_string_equal(spec.domainname, "d");
	assert_string_equal(spec.user, "u:g");
	assert_string_equal(spec.group_add, "1,2");
	assert_string_equal(spec.init, "/i");
	assert_string_equal(spec.cgroup, "/gantry/x");
	assert_string_equal(spec_namespace(&spec, CLONE_NEWNET)->path, "/proc/1/ns/net");
	assert_null(spec_namespace(&spec, CLONE_NEWPID)->path);
	assert_null(spec_namespace(&spec, CLONE_NEWIPC)->path);
	assert_null(spec_namespace(&spec, CLONE_NEWUTS));
	assert_int_equal(spec.root_propagation, 1 << 19 | 16384);
	assert_int_equal(spec.masked.count, 1);
	assert_int_equal(spec.readonly.count, 0);
	assert_int_equal(spec.device_count, 3);
	assert_int_equal(spec.devices[0].mode, S_IFCHR | 0644);
	assert_int_equal(spec.devices[0].minor, 229);
	assert_int_equal(spec.devices[0].gid, 2);
	assert_int_equal(spec.devices[1].mode, S_IFIFO | 0666);
	assert_int_equal(spec.devices[2].mode, S_IFBLK | 0666);
	spec_release(&spec);
}

/* ---- users ---- */

/* user_find() looks from the working directory: in jail that is the root. */
static int enter_jail(void **state)
{
	return scratch_make(state) == 0 && chdir(*state) == 0 && mkdir("etc", 0755) == 0 ? 0 : -1;
}

static int leave_jail(void **state)
{
	return chdir("/") == 0 ? scratch_remove(state) : -1;
}

static void put(const char *path, const void *bytes, size_t len)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	fclose(file);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

static const char PASSWD[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "# a comment\n"
			     "broken:x:abc:1::/x:\n"
			     "short:x:5\n"
			     "web:x:33:33:www-data:/var/www:/bin/false\n"
			     "web:x:44:44:second of its name:/nowhere:/bin/false\n"
			     "1000:x:77:78:a name of digits:/digits:/bin/sh\n"
			     "max:x:2147483647:2147483647::/max:\n"
			     "over:x:2147483648:1::/over:\n"
			     "last:x:99:98::/last:/bin/sh";
static const char GROUP[] = "root:x:0:\nweb:x:33:web\nextra:x:500:other,web\nmore:x:501:web,web\nbroken:x:y:web\nnone:x:502\nwheel:x:10:root\nlast:x:98:";

static void users_are_found_as_docker_finds_them(void **state)
{
	(void)state;
	static const struct {
		const char *user, *group_add, *result; /* "uid:gid home groups" */
	} CASES[] = {
		{ NULL, NULL, "0:0 /root 0,10" },
		{ "", NULL, "0:0 /root 0,10" },
		{ "root", NULL, "0:0 /root 0,10" },
		{ "web", NULL, "33:33 /var/www 33,500,501" },
		{ "33", NULL, "33:33 /var/www 33,500,501" },
		{ "web:extra", NULL, "33:500 /var/www 500" },
		{ "web:7", NULL, "33:7 /var/www 7" },
		{ "web:", NULL, "33:33 /var/www 33,500,501" },
		{ ":extra", NULL, "0:500 /root 500" },
		{ "4711", NULL, "4711:0 - 0" },
		{ "4711:4712", NULL, "4711:4712 - 4712" },
		{ "1000", NULL, "77:78 /digits 78" },
		{ "last:last", NULL, "99:98 /last 98" },
		{ "2147483647", NULL, "2147483647:2147483647 /max 2147483647" },
		{ "4711", "extra,12,extra", "4711:0 - 0,500,12" },
		{ "web", "12,,wheel", "33:33 /var/www 33,500,501,12,10" },
	};
	put_text("etc/passwd", PASSWD);
	put_text("etc/group", GROUP);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct identity who;
		struct gt_error err = { 0 };
		AUTO_BUF struct gt_buf result = { 0 };
		if (user_find(CASES[i].user, CASES[i].group_add, &who, &err) < 0)
			fail_msg("%s: %s", CASES[i].user, err.message);
		gt_buf_printf(&result, "%u:%u %s ", who.uid, who.gid, who.home[0] ? who.home : "-");
		for (size_t k = 0; k < who.group_count; k++)
			gt_buf_printf(&result, "%s%u", k ? "," : "", who.groups[k]);
		free(who.groups);
		assert_string_equal(result.data, CASES[i].result);
	}
}

static void who_is_not_there_is_told(void **state)
{
	(void)state;
	static const struct {
		const char *user, *group_add, *complaint;
	} CASES[] = {
		{ "nobody", NULL, "unable to find user nobody: no matching entries in passwd file" },
		{ "broken", NULL, "unable to find user broken" },
		{ "short", NULL, "unable to find user short" },
		{ "over", NULL, "unable to find user over" },
		{ "-1", NULL, "unable to find user -1" },
		{ "2147483648", NULL, "uids and gids must be in range 0-2147483647" },
		{ "99999999999999999999", NULL, "uids and gids must be in range" },
		{ "web:2147483648", NULL, "uids and gids must be in range" },
		{ "1x", NULL, "unable to find user 1x" },
		{ "web:nogroup", NULL, "unable to find group nogroup: no matching entries in group file" },
		{ "web:-5", NULL, "unable to find group -5" },
		{ "web", "nogroup", "Unable to find group nogroup" },
		{ "web:web:web", NULL, "unable to find group" },
	};
	put_text("etc/passwd", PASSWD);
	put_text("etc/group", GROUP);
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct identity who = { 0 };
		struct gt_error err = { 0 };
		int rc = user_find(CASES[i].user, CASES[i].group_add, &who, &err);
		free(who.groups);
		if (rc != -1 || !strstr(err.message, CASES[i].complaint))
			fail_msg("%s: %d, %s", CASES[i].user, rc, err.message);
	}
}

/* Files of an image are hostile: links out of it, pipes, endless lines, too many groups. */
static void hostile_files_lead_nowhere(void **state)
{
	(void)state;
	struct identity who;
	struct gt_error err = { 0 };
	AUTO_FREE char *outside = gt_xasprintf("%s.outside", (char *)*state);
	put_text(outside, "intruder:x:1:1::/:\n");
	AUTO_FREE char *up = gt_xasprintf("../../../../../..%s", outside);
	assert_int_equal(symlink(outside, "etc/passwd"), 0);
	assert_int_equal(user_find("intruder", NULL, &who, &err), -1);
	assert_int_equal(unlink("etc/passwd") | symlink(up, "etc/passwd"), 0);
	assert_int_equal(user_find("intruder", NULL, &who, &err), -1);
	unlink(outside);
	/* but one that stays inside is followed */
	assert_int_equal(unlink("etc/passwd") | symlink("/etc/real", "etc/passwd"), 0);
	put_text("etc/real", "inside:x:7:8::/in:\n");
	assert_int_equal(user_find("inside", NULL, &who, &err), 0);
	assert_int_equal(who.uid, 7);
	free(who.groups);
	assert_int_equal(unlink("etc/passwd") | mkfifo("etc/passwd", 0600), 0);
	assert_int_equal(user_find("12", NULL, &who, &err), 0);
	free(who.groups);
	assert_int_equal(unlink("etc/passwd") | mkdir("etc/passwd", 0700), 0);
	assert_int_equal(user_find("12", NULL, &who, &err), 0);
	free(who.groups);
	assert_int_equal(rmdir("etc/passwd"), 0);

	AUTO_BUF struct gt_buf text = { 0 };
	for (int i = 0; i < 3000; i++)
		gt_buf_printf(&text, "g%d:x:%d:many\n", i, i + 1000);
	put("etc/group", text.data, text.len);
	put_text("etc/passwd", "many:x:1:1::/:\n");
	assert_int_equal(user_find("many", NULL, &who, &err), 0);
	assert_int_equal(who.group_count, 1024);
	free(who.groups);
	gt_buf_reset(&text);
	memset(gt_buf_reserve(&text, 6 << 20), 'x', 6 << 20);
	text.len = 6 << 20;
	gt_buf_str(&text, "\nlate:x:1:1::/:\n");
	put("etc/passwd", text.data, text.len);
	assert_int_equal(user_find("late", NULL, &who, &err), -1); /* past what is read of such a file */
}

static void without_files_numbers_still_count(void **state)
{
	(void)state;
	struct identity who;
	assert_int_equal(user_find("5:6", "7", &who, NULL), 0);
	assert_int_equal(who.uid, 5);
	assert_int_equal(who.gid, 6);
	assert_int_equal(who.group_count, 2);
	assert_string_equal(who.home, "");
	free(who.groups);
	assert_int_equal(user_find("root", NULL, &who, NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mount_options_become_attributes_and_data),
		cmocka_unit_test(binds_and_propagation_are_told_apart_from_flags),
		cmocka_unit_test(mounts_of_their_own_file_system_need_no_host),
		cmocka_unit_test(what_cannot_be_done_is_refused_by_name),
		cmocka_unit_test(lists_without_end_are_refused),
		cmocka_unit_test(the_rest_of_a_bundle_is_read),
		cmocka_unit_test_setup_teardown(users_are_found_as_docker_finds_them, enter_jail, leave_jail),
		cmocka_unit_test_setup_teardown(who_is_not_there_is_told, enter_jail, leave_jail),
		cmocka_unit_test_setup_teardown(hostile_files_lead_nowhere, enter_jail, leave_jail),
		cmocka_unit_test_setup_teardown(without_files_numbers_still_count, enter_jail, leave_jail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
