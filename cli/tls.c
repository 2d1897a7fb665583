/*
 * tls.c - libssl by dlopen: the few calls that a TLS client needs, looked up by name.
 *
 * The declarations come from OpenSSL's own headers, so a wrong signature does not compile; nothing of the library is
 * linked. Symbols of libcrypto are found through libssl's handle, which depends on it.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "conn.h"

#define TLS_CALLS(X)                                                                                              \
	X(TLS_client_method) X(SSL_CTX_new) X(SSL_CTX_free) X(SSL_CTX_load_verify_locations)                      \
	X(SSL_CTX_set_default_verify_paths) X(SSL_CTX_set_verify) X(SSL_CTX_use_certificate_chain_file)           \
	X(SSL_CTX_use_PrivateKey_file) X(SSL_CTX_check_private_key) X(SSL_new) X(SSL_free) X(SSL_set_fd) X(SSL_ctrl) \
	X(SSL_set1_host) X(SSL_get0_param) X(X509_VERIFY_PARAM_set1_ip_asc) X(SSL_connect) X(SSL_read) X(SSL_write) \
	X(SSL_pending) X(SSL_shutdown) X(SSL_get_error) X(SSL_get_verify_result) X(X509_verify_cert_error_string)  \
	X(ERR_get_error) X(ERR_error_string_n) X(ERR_clear_error)

struct tls_library {
#define DECLARE(name) __typeof__(name) *name;
	TLS_CALLS(DECLARE)
#undef DECLARE
};

struct tls_session {
	struct tls_library lib;
	SSL_CTX *ctx;
	SSL *ssl;
};

static int load(struct tls_library *lib, struct gt_error *err)
{
	void *handle = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return gt_fail(err, GT_UNAVAILABLE, "TLS needs OpenSSL 3 (package libssl3): %s", dlerror());
#define FIND(name)                                                                                                \
	lib->name = (__typeof__(lib->name))dlsym(handle, #name);                                                  \
	if (!lib->name)                                                                                           \
		return gt_fail(err, GT_UNAVAILABLE, "libssl.so.3 lacks %s: OpenSSL 3 is needed", #name);
	TLS_CALLS(FIND)
#undef FIND
	return 0;
}

static int fail(struct tls_session *tls, struct gt_error *err, const char *what)
{
	char reason[256] = "unknown reason";
	unsigned long code = tls->lib.ERR_get_error();
	if (code)
		tls->lib.ERR_error_string_n(code, reason, sizeof reason);
	/* "error:0A000086:SSL routines::certificate verify failed": the last part is for people. */
	const char *text = strrchr(reason, ':');
	return gt_fail(err, GT_UNAVAILABLE, "%s: %s", what, text ? text + 1 : reason);
}

static int set_files(struct tls_session *tls, const struct tls_files *files, struct gt_error *err)
{
	struct tls_library *lib = &tls->lib;
	AUTO_BUF struct gt_buf what = { 0 };
	if (files->verify) {
		gt_buf_printf(&what, "cannot read the CA certificate %s", files->ca ? files->ca : "(system's own)");
		int ok = files->ca ? lib->SSL_CTX_load_verify_locations(tls->ctx, files->ca, NULL)
				   : lib->SSL_CTX_set_default_verify_paths(tls->ctx);
		if (ok != 1)
			return fail(tls, err, what.data);
		lib->SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	} else {
		lib->SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_NONE, NULL);
	}
	if (!files->cert)
		return 0;
	gt_buf_reset(&what);
	gt_buf_printf(&what, "cannot use the client certificate %s with the key %s", files->cert, files->key);
	if (lib->SSL_CTX_use_certificate_chain_file(tls->ctx, files->cert) != 1 ||
	    lib->SSL_CTX_use_PrivateKey_file(tls->ctx, files->key, SSL_FILETYPE_PEM) != 1 ||
	    lib->SSL_CTX_check_private_key(tls->ctx) != 1)
		return fail(tls, err, what.data);
	return 0;
}

static bool is_address(const char *host)
{
	unsigned char address[16];
	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static int handshake(struct tls_session *tls, int fd, const char *host, bool verify, struct gt_error *err)
{
	struct tls_library *lib = &tls->lib;
	tls->ssl = lib->SSL_new(tls->ctx);
	if (!tls->ssl || lib->SSL_set_fd(tls->ssl, fd) != 1)
		return fail(tls, err, "cannot begin TLS");
	bool named = true;
	if (is_address(host)) {
		named = !verify || lib->X509_VERIFY_PARAM_set1_ip_asc(lib->SSL_get0_param(tls->ssl), host) == 1;
	} else {
		lib->SSL_ctrl(tls->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host);
		named = !verify || lib->SSL_set1_host(tls->ssl, host) == 1;
	}
	if (!named)
		return fail(tls, err, "cannot begin TLS");
	if (lib->SSL_connect(tls->ssl) == 1)
		return 0;
	long result = lib->SSL_get_verify_result(tls->ssl);
	if (result != X509_V_OK)
		return gt_fail(err, GT_UNAVAILABLE, "the daemon's certificate is refused: %s",
			       lib->X509_verify_cert_error_string(result));
	return fail(tls, err, "TLS with the daemon failed");
}

struct tls_session *tls_connect(int fd, const char *host, const struct tls_files *files, struct gt_error *err)
{
	struct tls_session *tls = gt_xcalloc(1, sizeof *tls);
	/* libssl writes to the socket with write(2). */
	signal(SIGPIPE, SIG_IGN);
	if (load(&tls->lib, err) < 0) {
		free(tls);
		return NULL;
	}
	tls->ctx = tls->lib.SSL_CTX_new(tls->lib.TLS_client_method());
	if (!tls->ctx)
		fail(tls, err, "cannot begin TLS");
	if (!tls->ctx || set_files(tls, files, err) < 0 || handshake(tls, fd, host, files->verify, err) < 0) {
		tls_free(tls);
		return NULL;
	}
	return tls;
}

/* Turns libssl's result into that of read(2) and write(2). */
static ssize_t result_of(struct tls_session *tls, int result)
{
	if (result > 0)
		return result;
	switch (tls->lib.SSL_get_error(tls->ssl, result)) {
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_SYSCALL:
		if (errno == 0)
			errno = ECONNRESET;
		return -1;
	default:
		errno = EPROTO;
		return -1;
	}
}

ssize_t tls_read(struct tls_session *tls, void *bytes, size_t room)
{
	tls->lib.ERR_clear_error();
	errno = 0;
	return result_of(tls, tls->lib.SSL_read(tls->ssl, bytes, room > INT32_MAX ? INT32_MAX : (int)room));
}

ssize_t tls_write(struct tls_session *tls, const void *bytes, size_t len)
{
	tls->lib.ERR_clear_error();
	errno = 0;
	return result_of(tls, tls->lib.SSL_write(tls->ssl, bytes, len > INT32_MAX ? INT32_MAX : (int)len));
}

bool tls_pending(const struct tls_session *tls)
{
	return tls->lib.SSL_pending(tls->ssl) > 0;
}

void tls_half_close(struct tls_session *tls)
{
	tls->lib.SSL_shutdown(tls->ssl);
}

void tls_free(struct tls_session *tls)
{
	if (tls->ssl)
		tls->lib.SSL_free(tls->ssl);
	if (tls->ctx)
		tls->lib.SSL_CTX_free(tls->ctx);
	free(tls);
}
