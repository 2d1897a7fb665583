/* What registries say: challenges, manifests, platforms; how they are reached; and the gzip that goes to them. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "../../core/image/registry/gzip.h"
#include "../../core/image/registry/registry.h"
#include "base/base64.h"
#include "image_fixture.h"

/* ---- challenges ---- */

static void challenges_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *headers;
		enum scheme scheme;
		const char *realm, *service;
	} cases[] = {
		{ "", SCHEME_NONE, NULL, NULL },
		{ "Basic realm=\"x\"\n", SCHEME_BASIC, "x", NULL },
		{ "Bearer realm=\"https://a/t\",service=\"s\"\n", SCHEME_BEARER, "https://a/t", "s" },
		{ "bearer REALM=\"https://a/t\" , service = s\n", SCHEME_BEARER, "https://a/t", "s" },
		{ "Basic realm=\"x\", Bearer realm=\"https://a\", service=\"q\\\"q\"\n", SCHEME_BEARER, "https://a", "q\"q" },
		{ "Bearer realm=\"https://a\"\nBasic realm=\"x\"\n", SCHEME_BEARER, "https://a", NULL },
		{ "Bearer service=\"s\"\nBasic realm=\"x\"\n", SCHEME_BASIC, "x", NULL },  /* a Bearer without realm is of no use */
		{ "Negotiate\nDigest realm=\"x\",nonce=\"y\"\n", SCHEME_NONE, NULL, NULL },
		{ "Bearer realm=\"https://a,b\",realm=\"https://evil\"\n", SCHEME_BEARER, "https://a,b", NULL },
		{ "Bearer realm=\"broken\n", SCHEME_NONE, NULL, NULL },
		{ "Bearer realm=\n", SCHEME_NONE, NULL, NULL },
		{ "=,=,\"\n", SCHEME_NONE, NULL, NULL },
		{ "Basic\n", SCHEME_BASIC, NULL, NULL },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct challenge challenge;
		challenge_parse(cases[i].headers, &challenge);
		if (challenge.scheme != cases[i].scheme)
			fail_msg("%s: scheme %d", cases[i].headers, (int)challenge.scheme);
		assert_string_equal(challenge.realm ? challenge.realm : "-", cases[i].realm ? cases[i].realm : "-");
		assert_string_equal(challenge.service ? challenge.service : "-", cases[i].service ? cases[i].service : "-");
		challenge_free(&challenge);
	}
}

/* ---- manifests ---- */

#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DIGEST "\"digest\":\"sha256:" HEX "\""
#define CONFIG "\"config\":{\"mediaType\":\"" TYPE_OCI_CONFIG "\"," DIGEST ",\"size\":2}"
#define LAYER "{\"mediaType\":\"" TYPE_OCI_LAYER "+gzip\"," DIGEST ",\"size\":3}"

static void manifests_are_read_or_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *type, *error;        /* error NULL: good */
	} cases[] = {
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", NULL, NULL },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[]}", TYPE_DOCKER_MANIFEST "; charset=utf-8", NULL },
		{ "{\"schemaVersion\":2,\"mediaType\":\"" TYPE_OCI_MANIFEST "\"," CONFIG ",\"layers\":[]}", "text/plain", NULL },
		{ "{\"schemaVersion\":2,\"manifests\":[]}", TYPE_OCI_INDEX, NULL },
		{ "{\"schemaVersion\":2,\"manifests\":[]}", TYPE_OCI_MANIFEST, "its content is that of an index" },
		{ "{\"schemaVersion\":2,\"mediaType\":\"" TYPE_OCI_INDEX "\"," CONFIG ",\"layers\":[]}", NULL, "its content is that of a manifest" },
		{ "{\"schemaVersion\":2,\"mediaType\":\"a/b\"," CONFIG ",\"layers\":[]}", NULL, "is not an image" },
		{ "{\"schemaVersion\":1}", NULL, "schema 1" },
		{ "{\"schemaVersion\":3}", NULL, "not 2" },
		{ "{}", NULL, "not 2" },
		{ "[]", NULL, "not a JSON object" },
		{ "", NULL, "manifest" },
		{ "{\"schemaVersion\":2,\"manifests\":[]," CONFIG "}", NULL, "at once" },
		{ "{\"schemaVersion\":2,\"layers\":[]}", NULL, "no config" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"mediaType\":\"x\"," DIGEST ",\"size\":3}]}", NULL, "type \"x\"" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"mediaType\":\"" TYPE_OCI_LAYER "\"," DIGEST "}]}", NULL, "no size" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"mediaType\":\"" TYPE_OCI_LAYER "\"," DIGEST ",\"size\":-5}]}", NULL, "no size" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"mediaType\":\"" TYPE_OCI_LAYER "\",\"digest\":\"md5:1\",\"size\":1}]}", NULL,
		  "not sha256" },
		{ "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/helm\"," DIGEST ",\"size\":2},\"layers\":[]}", NULL, "not a container image" },
		{ "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" TYPE_OCI_CONFIG "\"," DIGEST ",\"size\":99999999999},\"layers\":[]}", NULL,
		  "config is not of" },
	};
	for (size_t i = 0; i < GT_COUNT(cases); i++) {
		struct manifest manifest;
		struct gt_error err = { 0 };
		int rc = manifest_parse(cases[i].text, strlen(cases[i].text), cases[i].type, &manifest, &err);
		if (cases[i].error ? rc == 0 || !strstr(err.message, cases[i].error) : rc < 0)
			fail_msg("%s: %d %s", cases[i].text, rc, err.message);
		if (rc == 0)
			manifest_free(&manifest);
	}
}

static void foreign_layers_are_told(void **state)
{
	(void)state;
	struct descriptor descriptor;
	struct gt_error err = { 0 };
	AUTO_JSON json_t *urls = json_loads("{\"mediaType\":\"" TYPE_OCI_LAYER "\"," DIGEST ",\"size\":1,\"urls\":[\"https://x\"]}", 0, NULL);
	AUTO_JSON json_t *type = json_loads("{\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\"," DIGEST "}", 0, NULL);
	AUTO_JSON json_t *plain = json_loads(LAYER, 0, NULL);
	assert_ok(descriptor_parse(urls, &descriptor, &err), err);
	assert_true(descriptor.foreign);
	assert_ok(descriptor_parse(type, &descriptor, &err), err);
	assert_true(descriptor.foreign);
	assert_ok(descriptor_parse(plain, &descriptor, &err), err);
	assert_false(descriptor.foreign);
}

/* ---- platforms ---- */

static void platforms_are_read(void **state)
{
	(void)state;
	static const char *const good[][2] = {
		{ "linux/amd64", "linux/amd64" },   { "Linux/x86_64", "linux/amd64" },    { "linux/arm64/v8", "linux/arm64" }, { "arm64", "linux/arm64" },
		{ "linux/arm/7", "linux/arm/v7" },  { "linux/arm", "linux/arm/v7" },      { "armhf", "linux/arm/v7" },         { "linux/arm/v6", "linux/arm/v6" },
		{ "linux/aarch64", "linux/arm64" }, { "linux/amd64/v3", "linux/amd64/v3" },
	};
	static const char *const bad[] = { "windows/amd64", "a/b/c/d", "linux/", "/", "linux/a b", "linux/amd64/", "linux/\xc3\xa9" };
	struct platform platform;
	struct gt_error err = { 0 };
	char text[100];
	for (size_t i = 0; i < GT_COUNT(good); i++) {
		assert_ok(platform_parse(good[i][0], &platform, &err), err);
		platform_format(&platform, text);
		assert_string_equal(text, good[i][1]);
	}
	for (size_t i = 0; i < GT_COUNT(bad); i++)
		assert_int_equal(platform_parse(bad[i], &platform, &err), -1);
	assert_ok(platform_parse(NULL, &platform, &err), err);
	assert_string_equal(platform.os, "linux");
}

static int rank(const char *wanted, const char *offered)
{
	struct platform a, b;
	platform_parse(wanted, &a, NULL);
	platform_parse(offered, &b, NULL);
	return platform_rank(&a, &b);
}

static void older_variants_serve_newer_ones(void **state)
{
	(void)state;
	assert_true(rank("linux/arm/v7", "linux/arm/v7") > rank("linux/arm/v7", "linux/arm/v6"));
	assert_true(rank("linux/arm/v7", "linux/arm/v6") > rank("linux/arm/v7", "linux/arm/v5"));
	assert_int_equal(rank("linux/arm/v6", "linux/arm/v7"), 0);
	assert_int_equal(rank("linux/amd64", "linux/amd64/v3"), 0);
	assert_true(rank("linux/amd64/v3", "linux/amd64") > 0);
	assert_int_equal(rank("linux/arm64", "linux/arm/v7"), 0);
	assert_int_equal(rank("linux/amd64", "linux/386"), 0);
}

/* ---- endpoints ---- */

static struct gt_config *config_of(const char *text)
{
	struct gt_config *config;
	struct gt_error err = { 0 };
	char path[] = "/tmp/gt-registry-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	gt_write_full(fd, text, strlen(text));
	close(fd);
	assert_ok(gt_config_load(path, true, &config, &err), err);
	unlink(path);
	return config;
}

static void endpoints_come_in_order(void **state)
{
	(void)state;
	struct gt_config *config = config_of("[registry]\ninsecure = plain.test, 10.0.0.0/8, fd00::/16, port.test:5000\n"
					     "mirrors = https://m.test/, other.test=http://o.test:81\n");
	struct endpoints list;
	endpoints_of(config, "docker.io", true, &list);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0].base, "https://m.test");
	assert_true(list.items[0].mirror);
	assert_string_equal(list.items[1].base, "https://registry-1.docker.io");
	endpoints_free(&list);
	endpoints_of(config, "plain.test:5000", true, &list);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[1].base, "http://plain.test:5000");
	endpoints_free(&list);
	static const char *const insecure[] = { "localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "10.1.2.3:80", "[fd00:0:1::2]:5",
						"port.test:5000" };
	static const char *const secure[] = { "localhost.evil.test", "11.0.0.1", "port.test", "port.test:5001", "127.0.0.1.evil.test", "[fd01::1]:5" };
	for (size_t i = 0; i < GT_COUNT(insecure); i++)
		assert_true(endpoint_is_insecure(config, insecure[i]));
	for (size_t i = 0; i < GT_COUNT(secure); i++)
		assert_false(endpoint_is_insecure(config, secure[i]));
	gt_config_free(config);
}

static void certificates_are_found_by_host(void **state)
{
	(void)state;
	char dir[] = "/tmp/gt-certs-XXXXXX";
	struct gt_error err = { 0 };
	assert_non_null(mkdtemp(dir));
	AUTO_FREE char *text = gt_xasprintf("[registry]\ncerts = %s\n", dir);
	AUTO_FREE char *host = gt_xasprintf("%s/reg.test:5000", dir);
	struct gt_config *config = config_of(text);
	assert_int_equal(mkdir(host, 0700), 0);
	AUTO_CLOSE int fd = open(host, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	assert_ok(gt_replace_file(fd, "b.crt", "two", 3, 0600, false, &err), err);
	assert_ok(gt_replace_file(fd, "a.crt", "one", 3, 0600, false, &err), err);
	assert_ok(gt_replace_file(fd, "me.cert", "x", 1, 0600, false, &err), err);
	struct http_route route;
	assert_fails(route_of(config, "https://reg.test:5000/v2/", &route, &err), err, GT_INTERNAL, "has no key");
	assert_ok(gt_replace_file(fd, "me.key", "x", 1, 0600, false, &err), err);
	assert_ok(route_of(config, "https://reg.test:5000/v2/", &route, &err), err);
	assert_string_equal(route.ca, "one\ntwo\n");
	assert_non_null(strstr(route.key, "/me.key"));
	route_free(&route);
	static const char *const others[] = { "https://reg.test/v2/", "http://reg.test:5000/", "https://../x", "https:///etc" };
	for (size_t i = 0; i < GT_COUNT(others); i++) {
		assert_ok(route_of(config, others[i], &route, &err), err);
		assert_null(route.ca);
		route_free(&route);
	}
	gt_remove_tree(AT_FDCWD, dir, NULL);
	gt_config_free(config);
}

static void waiting_times_are_read(void **state)
{
	(void)state;
	int64_t now = 1700000000 * GT_SECOND; /* Tue, 14 Nov 2023 22:13:20 GMT */
	assert_int_equal(http_retry_after("17", now), 17);
	assert_int_equal(http_retry_after("Tue, 14 Nov 2023 22:14:20 GMT", now), 60);
	assert_int_equal(http_retry_after("Tue, 14 Nov 2023 22:00:00 GMT", now), 0);
	assert_int_equal(http_retry_after("soon", now), -1);
	assert_int_equal(http_retry_after("-1", now), -1);
	assert_int_equal(http_retry_after(NULL, now), -1);
}

static void credentials_are_read(void **state)
{
	(void)state;
	struct credentials credentials;
	struct gt_error err = { 0 };
	AUTO_JSON json_t *pair = json_pack("{s:s}", "auth", "bWU6cDp3");
	AUTO_JSON json_t *bad = json_pack("{s:s}", "auth", "bWU=");
	AUTO_JSON json_t *wrong = json_pack("{s:i}", "username", 1);
	assert_ok(credentials_read(pair, &credentials, &err), err);
	assert_string_equal(credentials.user, "me");
	assert_string_equal(credentials.password, "p:w");
	credentials_free(&credentials);
	assert_fails(credentials_read(bad, &credentials, &err), err, GT_INVALID, "USER:PASSWORD");
	assert_fails(credentials_read(wrong, &credentials, &err), err, GT_INVALID, "username");
	assert_ok(credentials_read(NULL, &credentials, &err), err);
	assert_null(credentials.user);
	AUTO_JSON json_t *configs = json_pack("{s:{s:s}, s:{s:s}}", "https://index.docker.io/v1/", "username", "hub", "reg.test:5", "username", "r");
	assert_string_equal(json_string_value(json_object_get(gt_registry_auth_for(configs, "busybox"), "username")), "hub");
	assert_string_equal(json_string_value(json_object_get(gt_registry_auth_for(configs, "reg.test:5/x"), "username")), "r");
	assert_null(gt_registry_auth_for(configs, "reg.test/x"));
}

/* ---- gzip ---- */

static void pack_all(const struct gt_buf *plain, struct gt_buf *packed)
{
	struct gt_error err = { 0 };
	AUTO_CLOSE int fd = pipe_of(plain);
	struct packer *packer = packer_open(fd, &err);
	assert_non_null(packer);
	ssize_t got;
	do {
		got = packer_read(packer, gt_buf_reserve(packed, 70000), 70000, &err);
		assert_true(got >= 0);
		packed->len += (size_t)got;
	} while (got > 0);
	char hex[65], wanted[65];
	packer_plain(packer, hex);
	sha256_of(plain, wanted);
	assert_string_equal(hex, wanted);
	assert_int_equal(packer_position(packer), plain->len);
	packer_close(packer);
}

static void packed_layers_unpack_and_are_always_the_same(void **state)
{
	(void)state;
	static const size_t sizes[] = { 0, 1, 1000, 512 << 10, (512 << 10) + 1, 7 << 20 };
	for (size_t i = 0; i < GT_COUNT(sizes); i++) {
		AUTO_BUF struct gt_buf plain = { 0 };
		AUTO_BUF struct gt_buf packed = { 0 };
		AUTO_BUF struct gt_buf again = { 0 };
		uint32_t seed = 1;
		gt_buf_reserve(&plain, sizes[i] + 4);
		while (plain.len < sizes[i]) {
			seed = seed * 1664525u + 1013904223u;
			gt_buf_char(&plain, (char)(seed >> 30 ? seed >> 24 & 31 : 'a'));
		}
		pack_all(&plain, &packed);
		pack_all(&plain, &again);
		assert_int_equal(packed.len, again.len);
		assert_memory_equal(packed.data, again.data, packed.len);
		z_stream z = { .next_in = (Bytef *)packed.data, .avail_in = (uInt)packed.len };
		AUTO_FREE char *out = gt_xmalloc(sizes[i] + 1);
		assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
		z.next_out = (Bytef *)out;
		z.avail_out = (uInt)sizes[i] + 1;
		assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
		assert_int_equal(z.total_out, sizes[i]);
		assert_memory_equal(out, plain.data ? plain.data : "", sizes[i]);
		assert_int_equal(z.avail_in, 0);
		inflateEnd(&z);
	}
}

static void a_packer_can_be_left_half_way(void **state)
{
	(void)state;
	AUTO_BUF struct gt_buf plain = { 0 };
	struct gt_error err = { 0 };
	char bytes[100];
	memset(gt_buf_reserve(&plain, 20 << 20), 'x', 20 << 20);
	plain.len = 20 << 20;
	AUTO_CLOSE int fd = fd_of(&plain);
	struct packer *packer = packer_open(fd, &err);
	assert_true(packer_read(packer, bytes, sizeof bytes, &err) > 0);
	assert_true(packer_read(packer, bytes, sizeof bytes, &err) > 0);
	packer_close(packer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(challenges_are_read),
		cmocka_unit_test(manifests_are_read_or_refused),
		cmocka_unit_test(foreign_layers_are_told),
		cmocka_unit_test(platforms_are_read),
		cmocka_unit_test(older_variants_serve_newer_ones),
		cmocka_unit_test(endpoints_come_in_order),
		cmocka_unit_test(certificates_are_found_by_host),
		cmocka_unit_test(waiting_times_are_read),
		cmocka_unit_test(credentials_are_read),
		cmocka_unit_test(packed_layers_unpack_and_are_always_the_same),
		cmocka_unit_test(a_packer_can_be_left_half_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
