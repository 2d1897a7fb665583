#include "image_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

/* ---- tars ---- */

static void octal(char *field, size_t size, uint64_t value)
{
	if (value >> (3 * (size - 1))) { /* too large for digits: GNU's base 256 */
		for (size_t i = size; i-- > 0; value >>= 8)
			field[i] = (char)(value & 0xff);
		field[0] = (char)0x80;
		return;
	}
	for (size_t i = size - 1; i-- > 0; value >>= 3)
		field[i] = (char)('0' + (value & 7));
}

static void add_block(struct gt_buf *tar, const char *name, char type, const struct entry *entry, size_t size)
{
	char block[512] = { 0 };
	size_t len = strlen(name);
	memcpy(block, name, len < 100 ? len : 100);
	octal(block + 100, 8, entry->mode);
	octal(block + 108, 8, entry->uid);
	octal(block + 116, 8, entry->gid);
	octal(block + 124, 12, size);
	octal(block + 136, 12, (uint64_t)entry->mtime);
	memset(block + 148, ' ', 8);
	block[156] = type;
	if (entry->link)
		memcpy(block + 157, entry->link, strlen(entry->link) < 100 ? strlen(entry->link) : 100);
	memcpy(block + 257, "ustar\0" "00", 8);
	octal(block + 329, 8, entry->major);
	octal(block + 337, 8, entry->minor);
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof block; i++)
		sum += (unsigned char)block[i];
	snprintf(block + 148, 8, "%06o", sum);
	gt_buf_add(tar, block, sizeof block);
}

static void add_data(struct gt_buf *tar, const void *bytes, size_t len)
{
	static const char zeros[512];
	gt_buf_add(tar, bytes, len);
	if (len % 512)
		gt_buf_add(tar, zeros, 512 - len % 512);
}

static void add_pax(struct gt_buf *tar, const char *records)
{
	AUTO_BUF struct gt_buf body = { 0 };
	struct entry plain = { .mode = 0644 };
	for (const char *p = records; *p;) {
		size_t len = strcspn(p, "\n"), total = len + 3, digits;
		do {
			digits = (size_t)snprintf(NULL, 0, "%zu", total);
		} while (total != digits + 1 + len + 1 && (total = digits + 1 + len + 1));
		gt_buf_printf(&body, "%zu %.*s\n", total, (int)len, p);
		p += len + (p[len] == '\n');
	}
	add_block(tar, "PaxHeader", 'x', &plain, body.len);
	add_data(tar, body.data, body.len);
}

void tar_add(struct gt_buf *tar, const struct entry *entry)
{
	struct entry full = *entry;
	if (full.mode == 0)
		full.mode = full.type == '5' ? 0755 : 0644;
	size_t len = full.data ? full.len ? full.len : strlen(full.data) : 0;
	if (full.pax)
		add_pax(tar, full.pax);
	if (strlen(full.name) > 100) {
		struct entry plain = { .mode = 0644 };
		add_block(tar, "././@LongLink", 'L', &plain, strlen(full.name) + 1);
		add_data(tar, full.name, strlen(full.name) + 1);
	}
	add_block(tar, full.name, full.type, &full, len);
	add_data(tar, full.data, len);
}

void tar_end(struct gt_buf *tar)
{
	char zeros[1024] = { 0 };
	gt_buf_add(tar, zeros, sizeof zeros);
}

int fd_of(const struct gt_buf *bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(gt_write_full(fd, bytes->data, bytes->len), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

struct pump {
	int fd;
	struct gt_buf bytes;
};

static void *pump_main(void *arg)
{
	struct pump *pump = arg;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (gt_write_full(pump->fd, pump->bytes.data, pump->bytes.len) < 0)
		errno = 0; /* the reader had enough */
	close(pump->fd);
	gt_buf_free(&pump->bytes);
	free(pump);
	return NULL;
}

int pipe_of(const struct gt_buf *bytes)
{
	int ends[2];
	pthread_t thread;
	struct pump *pump = gt_xcalloc(1, sizeof *pump);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pump->fd = ends[1];
	gt_buf_add(&pump->bytes, bytes->data, bytes->len);
	assert_int_equal(pthread_create(&thread, NULL, pump_main, pump), 0);
	pthread_detach(thread);
	return ends[0];
}

void gzip_of(const struct gt_buf *from, struct gt_buf *to)
{
	z_stream z = { 0 };
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	size_t room = deflateBound(&z, from->len) + 64;
	z.next_out = (Bytef *)gt_buf_reserve(to, room);
	z.avail_out = (uInt)room;
	z.next_in = (Bytef *)from->data;
	z.avail_in = (uInt)from->len;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	to->len += z.total_out;
	deflateEnd(&z);
}

void zstd_of(const struct gt_buf *from, struct gt_buf *to)
{
	size_t room = ZSTD_compressBound(from->len);
	to->len += ZSTD_compress(gt_buf_reserve(to, room), room, from->data, from->len, 3);
}

void sha256_of(const struct gt_buf *bytes, char hex[65])
{
	unsigned char raw[EVP_MAX_MD_SIZE];
	EVP_Digest(bytes->data, bytes->len, raw, NULL, EVP_sha256(), NULL);
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
}

int drain(struct gt_stream *stream, struct gt_buf *out, struct gt_error *err)
{
	for (;;) {
		char *end = gt_buf_reserve(out, 65536);
		ssize_t n = gt_stream_read(stream, end, 65536, 10000, err);
		if (n == GT_STREAM_IDLE)
			continue;
		if (n <= 0) {
			gt_stream_close(stream);
			return (int)n;
		}
		out->len += (size_t)n;
	}
}

/* ---- image archives ---- */

static void pack(const struct layer_bytes *layer, struct gt_buf *out)
{
	if (layer->pack == GZIP)
		gzip_of(&layer->tar, out);
	else if (layer->pack == ZSTD)
		zstd_of(&layer->tar, out);
	else
		gt_buf_add(out, layer->tar.data, layer->tar.len);
}

static void make_config(struct gt_buf *out, const struct layer_bytes *layers, size_t count)
{
	json_t *diffs = json_array(), *history = json_array();
	for (size_t i = 0; i < count; i++) {
		char diff[72] = "sha256:";
		sha256_of(&layers[i].tar, diff + 7);
		json_array_append_new(diffs, json_string(diff));
		json_array_append_new(history, json_pack("{s:s, s:s}", "created", "2024-01-02T03:04:05Z", "created_by", "test"));
		json_array_append_new(history, json_pack("{s:s, s:s, s:b}", "created", "2024-01-02T03:04:05Z", "created_by", "CMD", "empty_layer", 1));
	}
	AUTO_JSON json_t *config = json_pack(
		"{s:s, s:s, s:s, s:s, s:{s:[s,s], s:[s], s:{s:s}, s:s, s:{s:{}}}, s:o, s:{s:s, s:o}}", "architecture", "amd64", "os", "linux",
		"created", "2024-01-02T03:04:05.678Z", "author", "me", "config", "Cmd", "/bin/x", "y", "Env", "A=b", "Labels", "color", "blue",
		"WorkingDir", "/w", "ExposedPorts", "80/tcp", "history", history, "rootfs", "type", "layers", "diff_ids", diffs);
	AUTO_FREE char *text = json_dumps(config, JSON_COMPACT);
	gt_buf_str(out, text);
}

static void add_file(struct gt_buf *out, const char *name, const struct gt_buf *bytes)
{
	tar_add(out, &(struct entry){ .name = name, .type = '0', .data = bytes->data, .len = bytes->len });
}

void docker_archive(struct gt_buf *out, const struct layer_bytes *layers, size_t count, const char *tag, char id[65])
{
	AUTO_BUF struct gt_buf config = { 0 };
	AUTO_BUF struct gt_buf manifest = { 0 };
	json_t *names = json_array();
	make_config(&config, layers, count);
	sha256_of(&config, id);
	for (size_t i = 0; i < count; i++) {
		AUTO_BUF struct gt_buf bytes = { 0 };
		AUTO_FREE char *name = gt_xasprintf("layer%zu/layer.tar", i);
		pack(&layers[i], &bytes);
		add_file(out, name, &bytes);
		/* as old Dockers do for a layer that is there twice */
		AUTO_FREE char *alias = gt_xasprintf("alias%zu/layer.tar", i), *target = gt_xasprintf("../layer%zu/layer.tar", i);
		tar_add(out, &(struct entry){ .name = alias, .type = '2', .link = target });
		json_array_append_new(names, json_string(i % 2 ? alias : name));
	}
	AUTO_FREE char *config_name = gt_xasprintf("%s.json", id);
	add_file(out, config_name, &config);
	json_t *tags = tag ? json_pack("[s]", tag) : json_null();
	AUTO_JSON json_t *json = json_pack("[{s:s, s:o, s:o}]", "Config", config_name, "RepoTags", tags, "Layers", names);
	AUTO_FREE char *text = json_dumps(json, 0);
	gt_buf_str(&manifest, text);
	add_file(out, "manifest.json", &manifest);
	tar_end(out);
}

static json_t *add_blob(struct gt_buf *out, const struct gt_buf *bytes, const char *type)
{
	char name[96] = "blobs/sha256/", digest[72] = "sha256:";
	sha256_of(bytes, name + 13);
	memcpy(digest + 7, name + 13, 65);
	add_file(out, name, bytes);
	return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)bytes->len);
}

static json_t *add_json_blob(struct gt_buf *out, json_t *json, const char *type)
{
	AUTO_FREE char *text = json_dumps(json, JSON_COMPACT);
	struct gt_buf bytes = { .data = text, .len = strlen(text) };
	json_decref(json);
	return add_blob(out, &bytes, type);
}

/* Nested: index.json -> index -> manifests for another platform and for this one. */
void oci_layout(struct gt_buf *out, const struct layer_bytes *layers, size_t count, const char *tag, char id[65])
{
	static const char *const suffix[] = { "", "+gzip", "+zstd" };
	AUTO_BUF struct gt_buf config = { 0 };
	json_t *list = json_array();
	tar_add(out, &(struct entry){ .name = "./oci-layout", .type = '0', .data = "{\"imageLayoutVersion\":\"1.0.0\"}" });
	make_config(&config, layers, count);
	sha256_of(&config, id);
	for (size_t i = 0; i < count; i++) {
		AUTO_BUF struct gt_buf bytes = { 0 };
		AUTO_FREE char *type = gt_xasprintf("application/vnd.oci.image.layer.v1.tar%s", suffix[layers[i].pack]);
		pack(&layers[i], &bytes);
		json_array_append_new(list, add_blob(out, &bytes, type));
	}
	json_t *manifest = add_json_blob(out,
					 json_pack("{s:i, s:o, s:o}", "schemaVersion", 2, "config",
						   add_blob(out, &config, "application/vnd.oci.image.config.v1+json"), "layers", list),
					 "application/vnd.oci.image.manifest.v1+json");
	json_t *foreign = json_deep_copy(manifest);
	json_object_set_new(foreign, "digest", json_string("sha256:0000000000000000000000000000000000000000000000000000000000000000"));
	json_object_set_new(foreign, "platform", json_pack("{s:s, s:s}", "os", "linux", "architecture", "mips"));
	json_object_set_new(manifest, "platform", json_pack("{s:s, s:s}", "os", "linux", "architecture", "amd64"));
	json_t *index = add_json_blob(out, json_pack("{s:i, s:[o,o]}", "schemaVersion", 2, "manifests", foreign, manifest),
				      "application/vnd.oci.image.index.v1+json");
	json_object_set_new(index, "annotations", json_pack("{s:s}", "org.opencontainers.image.ref.name", tag));
	AUTO_JSON json_t *top = json_pack("{s:i, s:[o]}", "schemaVersion", 2, "manifests", index);
	AUTO_FREE char *text = json_dumps(top, 0);
	tar_add(out, &(struct entry){ .name = "./index.json", .type = '0', .data = text });
	tar_end(out);
}

/* ---- a store ---- */

static int try_open(struct fixture *fixture, struct gt_error *err)
{
	AUTO_FREE char *path = gt_xasprintf("%s/gantryd.ini", fixture->dir);
	if (gt_config_load(path, true, &fixture->config, err) < 0 || gt_store_open(fixture->config->root, false, &fixture->store, err) < 0 ||
	    gt_drivers_load(fixture->config, NULL, NULL, NULL, &fixture->drivers, err) < 0 ||
	    !(fixture->storage = gt_driver_find(fixture->drivers, GANTRY_STORAGE, "overlay", err)))
		return -1;
	return gt_images_open(fixture->config, fixture->store, fixture->storage, &fixture->images, err);
}

void fixture_open(struct fixture *fixture)
{
	struct gt_error err = { 0 };
	assert_ok(try_open(fixture, &err), err);
}

void fixture_close(struct fixture *fixture)
{
	gt_images_close(take(fixture->images));
	if (fixture->drivers)
		gt_drivers_free(take(fixture->drivers));
	if (fixture->store)
		gt_store_close(take(fixture->store));
	if (fixture->config)
		gt_config_free(take(fixture->config));
}

int fixture_make(void **state)
{
	struct fixture *fixture = gt_xcalloc(1, sizeof *fixture);
	AUTO_FREE char *libexec = built("libexec"), *plugins = built("plugins");
	AUTO_BUF struct gt_buf text = { 0 };
	struct gt_error err = { 0 };
	void *dir = NULL;
	gt_log_set_level(GT_ERROR);
	if (scratch_make(&dir) < 0)
		return -1;
	fixture->dir = dir;
	fixture->helper = gt_xasprintf("%s/gantry-fs", libexec);
	gt_buf_printf(&text, "[daemon]\nroot = %s/root\nrun = %s/run\nlibexec_dir = %s\nplugin_dir = %s\n[storage]\nfsync = no\n"
		      "[plugin.storage-overlay]\nsync = no\n", /* a busy disk is none of the tests' business */
		      fixture->dir, fixture->dir, libexec, plugins);
	AUTO_CLOSE int fd = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = fixture;
	if (fd >= 0 && gt_replace_file(fd, "gantryd.ini", text.data, text.len, 0644, false, &err) == 0 && try_open(fixture, &err) == 0)
		return 0;
	print_error("set-up: %s\n", err.message); /* a teardown does not follow a set-up that failed */
	fixture_remove(state);
	return -1;
}

int fixture_remove(void **state)
{
	struct fixture *fixture = *state;
	if (!fixture)
		return 0;
	fixture_close(fixture);
	void *dir = fixture->dir;
	int rc = scratch_remove(&dir);
	free(fixture->helper);
	free(fixture);
	*state = NULL;
	return rc;
}

size_t count_files(const struct fixture *fixture, const char *below)
{
	AUTO_FREE char *path = gt_xasprintf("%s/root/%s", fixture->dir, below);
	DIR *dir = opendir(path);
	size_t count = 0;
	for (struct dirent *e; dir && (e = readdir(dir)) != NULL;)
		count += e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

int load_bytes(struct fixture *fixture, const struct gt_buf *archive, struct gt_error *err)
{
	AUTO_CLOSE int fd = fd_of(archive);
	AUTO_JSON json_t *loaded = NULL;
	return gt_image_load(fixture->images, fd, NULL, NULL, &loaded, err);
}
