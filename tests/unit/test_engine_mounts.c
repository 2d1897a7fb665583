/*
 * test_engine_mounts.c - mounts as users write them: -v, --mount, --tmpfs, VOLUME. Sources: Docker Engine API v1.50 (HostConfig.Binds, Mount), docs of bind
 * mounts, volumes and tmpfs.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#include "engine/mounts.h"

/* "type name|source -> destination [words]" */
static char *describe(const struct gt_container_mount *mount)
{
	struct gt_buf text = { 0 };
	gt_buf_printf(&text, "%s %s -> %s", mount->type, mount->name ? mount->name : mount->source ? mount->source : "-", mount->destination);
	gt_buf_printf(&text, " %s", mount->rw ? "rw" : "ro");
	if (mount->propagation)
		gt_buf_printf(&text, " %s", mount->propagation);
	if (mount->no_copy)
		gt_buf_str(&text, " nocopy");
	if (mount->anonymous)
		gt_buf_str(&text, " anonymous");
	if (mount->create_source)
		gt_buf_str(&text, " create");
	if (mount->non_recursive)
		gt_buf_str(&text, " flat");
	if (mount->driver)
		gt_buf_printf(&text, " driver=%s", mount->driver);
	if (mount->subpath)
		gt_buf_printf(&text, " subpath=%s", mount->subpath);
	if (mount->mode && mount->mode[0])
		gt_buf_printf(&text, " mode=%s", mount->mode);
	if (mount->tmpfs_size >= 0)
		gt_buf_printf(&text, " size=%lld", (long long)mount->tmpfs_size);
	if (mount->tmpfs_mode >= 0)
		gt_buf_printf(&text, " perm=%llo", (unsigned long long)mount->tmpfs_mode);
	if (mount->tmpfs_options && mount->tmpfs_options[0])
		gt_buf_printf(&text, " options=%s", mount->tmpfs_options);
	return gt_buf_take(&text);
}

static void paths_are_cleaned(void **state)
{
	(void)state;
	static const struct {
		const char *path, *clean; /* NULL: refused */
	} CASES[] = {
		{ "/a", "/a" },         { "/a/", "/a" },          { "//a///b//", "/a/b" }, { "/a/./b/.", "/a/b" },    { "/a/../b", "/b" },
		{ "/../../b", "/b" },   { "/a/b/../..", NULL },   { "/", NULL },           { "///", NULL },           { "/..", NULL },
		{ "/.", NULL },         { "", NULL },             { "a", NULL },           { "./a", NULL },           { "/...", "/..." },
		{ "/a/..b", "/a/..b" }, { "/ab/../c", "/c" },     { "/a b", "/a b" },      { "/a/bb/../c", "/a/c" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		AUTO_FREE char *clean = mount_clean_path(CASES[i].path);
		if (strcmp(clean ? clean : "(none)", CASES[i].clean ? CASES[i].clean : "(none)"))
			fail_msg("%s: %s", CASES[i].path, clean ? clean : "(none)");
	}
	AUTO_FREE char *endless = gt_xasprintf("/%05000d", 0);
	assert_null(mount_clean_path(endless));
}

struct reading {
	const char *text, *wanted; /* wanted: a description, or "!" and a part of the complaint */
};

static void check(int rc, struct mount_wish *wish, const struct gt_error *err, const struct reading *reading)
{
	AUTO_FREE char *got = rc == 0 ? describe(&wish->mount) : gt_xasprintf("!%s", err->message);
	if (reading->wanted[0] == '!' ? rc == 0 || !strstr(got, reading->wanted + 1) : strcmp(got, reading->wanted) != 0)
		fail_msg("%s: %s", reading->text, got);
	mount_release(&wish->mount);
}

static void binds_are_read(void **state)
{
	(void)state;
	static const struct reading CASES[] = {
		{ "/src:/dst", "bind /src -> /dst rw rprivate create" },
		{ "/src:/dst:ro", "bind /src -> /dst ro rprivate create mode=ro" },
		{ "/src:/dst:rw", "bind /src -> /dst rw rprivate create mode=rw" },
		{ "/src/../x/:/dst//y/:z", "bind /x -> /dst/y rw rprivate create mode=z" },
		{ "/:/host:ro,rslave", "bind / -> /host ro rslave create mode=ro,rslave" },
		{ "/src:/dst:Z,shared,ro", "bind /src -> /dst ro shared create mode=Z,shared,ro" },
		{ "/src:/dst:cached", "bind /src -> /dst rw rprivate create mode=cached" },
		{ "/src:/dst:ro,delegated", "bind /src -> /dst ro rprivate create mode=ro,delegated" },
		{ "vol:/data", "volume vol -> /data rw driver=local mode=z" },
		{ "vol:/data:ro", "volume vol -> /data ro driver=local mode=ro" },
		{ "vol:/data:nocopy", "volume vol -> /data rw nocopy driver=local mode=nocopy" },
		{ "/data", "volume - -> /data rw anonymous driver=local" },
		{ "", "!invalid volume specification" },
		{ ":", "!invalid volume specification" },
		{ "/src:", "!invalid volume specification" },
		{ ":/dst", "!invalid volume specification" },
		{ "/src::ro", "!invalid volume specification" },
		{ "/src:/dst:", "!invalid volume specification" },
		{ "/src:/dst:ro:x", "!invalid volume specification" },
		{ "/src:dst", "!mount path must be absolute" },
		{ "data", "!mount path must be absolute" },
		{ "/src:/", "!destination can't be '/'" },
		{ "/src:/a/..", "!destination can't be '/'" },
		{ "/src:/dst:rox", "!invalid mode: rox" },
		{ "/src:/dst:ro,rw", "!invalid mode" },
		{ "/src:/dst:ro,ro", "!invalid mode" },
		{ "/src:/dst:shared,rslave", "!invalid mode" },
		{ "/src:/dst:z,Z", "!invalid mode" },
		{ "/src:/dst:ro,", "!invalid mode" },
		{ "/src:/dst:nocopy", "!invalid mode" },
		{ "vol:/data:rshared", "!invalid mode" },
		{ "vol:/data:cached", "!invalid mode" },
		{ "../src:/dst", "!includes invalid characters for a local volume name" },
		{ "./src:/dst", "!includes invalid characters" },
		{ "a:/dst", "!includes invalid characters" }, /* a name has two characters at least */
		{ "vo l:/dst", "!includes invalid characters" },
		{ "-vol:/dst", "!includes invalid characters" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct mount_wish wish;
		struct gt_error err = { 0 };
		check(mount_read_bind(CASES[i].text, "local", &wish, &err), &wish, &err, &CASES[i]);
	}
}

static void mount_objects_are_read(void **state)
{
	(void)state;
	static const struct reading CASES[] = {
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/dst\"}", "bind /tmp -> /dst rw rprivate" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/dst\",\"ReadOnly\":true,\"Consistency\":\"cached\",\"BindOptions\":{\"Propagation\":\"rshared\","
		  "\"NonRecursive\":true}}",
		  "bind /tmp -> /dst ro rshared flat" },
		{ "{\"Type\":\"bind\",\"Source\":\"/no/such/place\",\"Target\":\"/dst\",\"BindOptions\":{\"CreateMountpoint\":true}}",
		  "bind /no/such/place -> /dst rw rprivate create" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/dst\",\"ReadOnly\":true,\"BindOptions\":{\"ReadOnlyNonRecursive\":true}}",
		  "bind /tmp -> /dst ro rprivate mode=ro-non-recursive" },
		{ "{\"Type\":\"volume\",\"Source\":\"vol\",\"Target\":\"/d\"}", "volume vol -> /d rw" },
		{ "{\"Type\":\"volume\",\"Target\":\"/d\"}", "volume - -> /d rw anonymous" },
		{ "{\"Type\":\"volume\",\"Source\":\"\",\"Target\":\"/d\",\"VolumeOptions\":null}", "volume  -> /d rw anonymous" },
		{ "{\"Type\":\"volume\",\"Source\":\"vol\",\"Target\":\"/d\",\"VolumeOptions\":{\"NoCopy\":true,\"Subpath\":\"a/b\",\"DriverConfig\":{\"Name\":\"nfs\"}}}",
		  "volume vol -> /d rw nocopy driver=nfs subpath=a/b" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/t\"}", "tmpfs - -> /t rw" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/t\",\"TmpfsOptions\":{\"SizeBytes\":65536,\"Mode\":448,\"Options\":[[\"exec\"],[\"uid\",\"5\"]]}}",
		  "tmpfs - -> /t rw size=65536 perm=700 options=exec,uid=5" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/t\",\"TmpfsOptions\":{\"SizeBytes\":0,\"Mode\":0}}", "tmpfs - -> /t rw" },
		{ "7", "!not an object" },
		{ "{}", "!mount type unknown: \"\"" },
		{ "{\"Type\":\"floppy\",\"Target\":\"/d\"}", "!mount type unknown: \"floppy\"" },
		{ "{\"Type\":\"npipe\",\"Target\":\"/d\"}", "!not supported" },
		{ "{\"Type\":\"image\",\"Target\":\"/d\"}", "!Source must not be empty" },
		{ "{\"Type\":\"image\",\"Source\":\"i\",\"Target\":\"/d\",\"ImageOptions\":{\"Subpath\":\"../x\"}}", "!relative path" },
		{ "{\"Type\":\"npipe\",\"Source\":\"i\",\"Target\":\"/d\"}", "!not supported" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\"}", "!field Target must not be empty" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/\"}", "!invalid mount path" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"d\"}", "!invalid mount path" },
		{ "{\"Type\":\"bind\",\"Target\":\"/d\"}", "!source must be absolute" },
		{ "{\"Type\":\"bind\",\"Source\":\"tmp\",\"Target\":\"/d\"}", "!source must be absolute" },
		{ "{\"Type\":\"bind\",\"Source\":\"/no/such/place\",\"Target\":\"/d\"}", "!bind source path does not exist: /no/such/place" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/d\",\"BindOptions\":{\"Propagation\":\"loud\"}}", "!invalid propagation mode" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/d\",\"BindOptions\":{\"ReadOnlyForceRecursive\":true}}", "!need ReadOnly" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/d\",\"ReadOnly\":true,\"BindOptions\":{\"ReadOnlyForceRecursive\":true,\"ReadOnlyNonRecursive\":true}}",
		  "!contradictory" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/d\",\"VolumeOptions\":{}}", "!options of another type" },
		{ "{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/d\",\"Consistency\":\"sure\"}", "!invalid consistency" },
		{ "{\"Type\":\"tmpfs\",\"Source\":\"/x\",\"Target\":\"/d\"}", "!source is not allowed" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/d\",\"TmpfsOptions\":{\"SizeBytes\":\"1m\"}}", "!SizeBytes" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/d\",\"TmpfsOptions\":{\"SizeBytes\":-2}}", "!SizeBytes" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/d\",\"TmpfsOptions\":{\"Mode\":-1}}", "!Mode" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/d\",\"TmpfsOptions\":{\"Mode\":65536}}", "!Mode" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/d\",\"TmpfsOptions\":{\"Options\":[7]}}", "!Options" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/d\",\"TmpfsOptions\":{\"Options\":[[]]}}", "!Options" },
		{ "{\"Type\":\"tmpfs\",\"Target\":\"/d\",\"TmpfsOptions\":{\"Options\":{}}}", "!Options" },
		{ "{\"Type\":\"volume\",\"Source\":\"../v\",\"Target\":\"/d\"}", "!not a volume's name" },
		{ "{\"Type\":\"volume\",\"Source\":\"vol\",\"Target\":\"/d\",\"VolumeOptions\":{\"Subpath\":\"../x\"}}", "!subpath" },
		{ "{\"Type\":\"volume\",\"Source\":\"vol\",\"Target\":\"/d\",\"VolumeOptions\":{\"Subpath\":\"a/../../x\"}}", "!subpath" },
		{ "{\"Type\":\"volume\",\"Source\":\"vol\",\"Target\":\"/d\",\"VolumeOptions\":{\"Subpath\":\"/x\"}}", "!subpath" },
		{ "{\"Type\":\"volume\",\"Target\":\"/d\",\"VolumeOptions\":{\"Subpath\":\"x\"}}", "!anonymous" },
		{ "{\"Type\":\"volume\",\"Target\":\"/d\",\"VolumeOptions\":{\"Labels\":[]}}", "!Labels" },
		{ "{\"Type\":7,\"Target\":\"/d\"}", "!Type" },
		{ "{\"Type\":\"volume\",\"Target\":\"/d\",\"ReadOnly\":\"true\"}", "!ReadOnly" },
	};
	for (size_t i = 0; i < GT_COUNT(CASES); i++) {
		struct mount_wish wish;
		struct gt_error err = { 0 };
		AUTO_JSON json_t *object = gt_json_parse(CASES[i].text, strlen(CASES[i].text), "mount", &err);
		assert_non_null(object);
		check(mount_read_object(object, &wish, &err), &wish, &err, &CASES[i]);
	}
}

static void tmpfs_and_volume_words_are_read(void **state)
{
	(void)state;
	static const struct reading TMPFS[] = {
		{ "", "tmpfs - -> /t rw" },
		{ "size=1m,ro", "tmpfs - -> /t ro options=size=1m,ro" },
		{ "ro,size=1m", "tmpfs - -> /t ro options=ro,size=1m" },
		{ "ro,rw", "tmpfs - -> /t rw options=ro,rw" },
		{ "root=1", "tmpfs - -> /t rw options=root=1" },
	};
	for (size_t i = 0; i < GT_COUNT(TMPFS); i++) {
		struct mount_wish wish;
		struct gt_error err = { 0 };
		check(mount_read_tmpfs("/t", TMPFS[i].text, &wish, &err), &wish, &err, &TMPFS[i]);
	}
	struct mount_wish wish;
	struct gt_error err = { 0 };
	AUTO_FREE char *endless = gt_xasprintf("size=%02000d", 1);
	check(mount_read_tmpfs("/t", endless, &wish, &err), &wish, &err, &(struct reading){ "endless", "!1024" });
	check(mount_read_tmpfs("t", "", &wish, &err), &wish, &err, &(struct reading){ "t", "!absolute" });
	check(mount_read_volume("/v/", "d", &wish, &err), &wish, &err, &(struct reading){ "/v/", "volume - -> /v rw anonymous driver=d" });
	check(mount_read_volume("v", "d", &wish, &err), &wish, &err, &(struct reading){ "v", "!absolute" });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_cleaned),
		cmocka_unit_test(binds_are_read),
		cmocka_unit_test(mount_objects_are_read),
		cmocka_unit_test(tmpfs_and_volume_words_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
