#include "build_session.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api.h"
#include "base/fd.h"
#include "base/id.h"
#include "conn.h"

#define SECRET_MAX (1u << 20)
#define MESSAGE_MAX ((256u << 10) + 4)
#define NAME_MAX_LEN 256

enum { HERE = 0, NONE = 1, FAILED = 2 };

struct secret {
	char *id, *file, *variable;     /* one of the two */
};

struct agent {
	char *id, *socket;
	int fd;                         /* -1: not connected */
};

struct build_session {
	char id[GT_ID_LEN + 1];
	struct conn conn;
	pthread_t thread;
	struct secret *secrets;
	size_t secret_count;
	struct agent *agents;
	size_t agent_count;
};

/* ---- --secret id=ID[,src=FILE|,env=VARIABLE] ---- */

static void secret_free(struct secret *secret)
{
	free(secret->id);
	free(secret->file);
	free(secret->variable);
}

static int secret_option(struct secret *secret, char **type, const char *part, struct gt_error *err)
{
	const char *value = strchr(part, '=');
	size_t len = value ? (size_t)(value - part) : strlen(part);
	const struct {
		const char *name;
		char **slot;
	} known[] = { { "id", &secret->id }, { "src", &secret->file }, { "source", &secret->file }, { "env", &secret->variable }, { "type", type } };
	for (size_t i = 0; value && i < GT_COUNT(known); i++) {
		if (strlen(known[i].name) != len || strncmp(known[i].name, part, len) != 0)
			continue;
		free(*known[i].slot);
		*known[i].slot = gt_xstrdup(value + 1);
		return 0;
	}
	return gt_fail(err, GT_INVALID, "--secret: \"%s\" is not one of id=, src=, env=, type=", part);
}

static int check_secret(struct secret *secret, const char *type, struct gt_error *err)
{
	struct stat st;
	if (!secret->id || !secret->id[0])
		return gt_fail(err, GT_INVALID, "--secret: an id is missing");
	if (type && strcmp(type, "file") != 0 && strcmp(type, "env") != 0)
		return gt_fail(err, GT_INVALID, "--secret: type=%s is neither file nor env", type);
	if (type && strcmp(type, "env") == 0 && !secret->variable)
		secret->variable = secret->file ? take(secret->file) : gt_xstrdup(secret->id);
	if (secret->variable && secret->file)
		return gt_fail(err, GT_INVALID, "--secret: %s has both a file and a variable", secret->id);
	if (!secret->variable && !secret->file && !type && getenv(secret->id))
		secret->variable = gt_xstrdup(secret->id);
	if (!secret->variable && !secret->file)
		secret->file = gt_xstrdup(secret->id);
	if (secret->variable && !getenv(secret->variable))
		return gt_fail(err, GT_NOT_FOUND, "--secret: the variable %s of secret %s is not set", secret->variable, secret->id);
	if (secret->file && stat(secret->file, &st) < 0)
		return gt_fail_errno(err, errno, "--secret: the file %s of secret %s", secret->file, secret->id);
	if (secret->file && st.st_size > SECRET_MAX)
		return gt_fail(err, GT_TOO_LARGE, "--secret: %s is larger than %u bytes", secret->file, SECRET_MAX);
	return 0;
}

static int add_secret(struct build_session *session, const char *text, struct gt_error *err)
{
	struct gt_strings parts = { 0 };
	AUTO_FREE char *type = NULL;
	int rc = 0;
	session->secrets = gt_xrealloc(session->secrets, (session->secret_count + 1) * sizeof *session->secrets);
	struct secret *secret = &session->secrets[session->secret_count++];
	*secret = (struct secret){ 0 };
	args_split_csv(text, &parts);
	for (size_t i = 0; rc == 0 && i < parts.count; i++)
		rc = secret_option(secret, &type, parts.items[i], err);
	gt_strings_free(&parts);
	return rc < 0 ? -1 : check_secret(secret, type, err);
}

/* ---- --ssh default|ID[=SOCKET] ---- */

static int add_agent(struct build_session *session, const char *text, struct gt_error *err)
{
	const char *equals = strchr(text, '='), *path = equals ? equals + 1 : getenv("SSH_AUTH_SOCK");
	struct stat st;
	AUTO_FREE char *id = gt_xstrndup(text, equals ? (size_t)(equals - text) : strlen(text));
	if (!id[0])
		return gt_fail(err, GT_INVALID, "--ssh: an id is missing: default, or ID=SOCKET");
	if (!path || !path[0])
		return gt_fail(err, GT_NOT_FOUND, "--ssh %s: no SSH agent runs here: SSH_AUTH_SOCK is not set", id);
	if (stat(path, &st) < 0)
		return gt_fail_errno(err, errno, "--ssh %s: %s", id, path);
	if (!S_ISSOCK(st.st_mode))
		return gt_fail(err, GT_UNSUPPORTED, "--ssh %s: %s is not an agent's socket: keys go into an agent first, with ssh-add", id, path);
	session->agents = gt_xrealloc(session->agents, (session->agent_count + 1) * sizeof *session->agents);
	session->agents[session->agent_count++] = (struct agent){ take(id), gt_xstrdup(path), -1 };
	return 0;
}

static int dial(struct agent *agent)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strlen(agent->socket) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, agent->socket, strlen(agent->socket));
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return -1;
	return take_fd(fd);
}

/* One message and its answer, both with their length in front. */
static int converse(struct agent *agent, const struct gt_buf *message, struct gt_buf *answer)
{
	uint32_t size;
	if (agent->fd < 0 && (agent->fd = dial(agent)) < 0)
		return -1;
	if (gt_write_full(agent->fd, message->data, message->len) < 0 || gt_read_full(agent->fd, &size, sizeof size) != sizeof size)
		return -1;
	size_t len = be32toh(size);
	if (len > MESSAGE_MAX - sizeof size) {
		errno = EMSGSIZE;
		return -1;
	}
	gt_buf_add(answer, &size, sizeof size);
	if (gt_read_full(agent->fd, gt_buf_reserve(answer, len), len) != (ssize_t)len)
		return -1;
	answer->len += len;
	return 0;
}

/* ---- answers ---- */

static struct agent *find_agent(struct build_session *session, const char *id)
{
	for (size_t i = 0; i < session->agent_count; i++) {
		if (strcmp(session->agents[i].id, id) == 0)
			return &session->agents[i];
	}
	return NULL;
}

static int give_secret(const struct build_session *session, const char *id, struct gt_buf *answer)
{
	struct gt_error err = { 0 };
	for (size_t i = 0; i < session->secret_count; i++) {
		const struct secret *secret = &session->secrets[i];
		if (strcmp(secret->id, id) != 0)
			continue;
		if (secret->variable)
			gt_buf_str(answer, getenv(secret->variable));
		else if (gt_read_file(AT_FDCWD, secret->file, SECRET_MAX, answer, &err) < 0) {
			gt_buf_reset(answer);
			gt_buf_printf(answer, "%.400s", err.message);
			return FAILED;
		}
		return HERE;
	}
	return NONE;
}

static int give_message(struct build_session *session, const char *id, const struct gt_buf *message, struct gt_buf *answer)
{
	struct agent *agent = find_agent(session, id);
	if (!agent)
		return NONE;
	if (converse(agent, message, answer) == 0)
		return HERE;
	int saved = errno;
	if (agent->fd >= 0)
		close(take_fd(agent->fd));
	gt_buf_reset(answer);
	gt_buf_printf(answer, "SSH agent %.100s: %s", id, saved ? strerror(saved) : "it has hung up");
	return FAILED;
}

static int get(struct conn *conn, void *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = conn_read(conn, (char *)bytes + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

/* One question and its answer. -1: the session is over. */
static int serve_one(struct build_session *session)
{
	uint8_t head[7];
	uint16_t name_len;
	uint32_t len;
	char name[NAME_MAX_LEN + 1];
	AUTO_BUF struct gt_buf message = { 0 };
	struct gt_buf answer = { 0 };
	if (get(&session->conn, head, sizeof head) < 0)
		return -1;
	memcpy(&name_len, head + 1, sizeof name_len);
	memcpy(&len, head + 3, sizeof len);
	name_len = be16toh(name_len);
	len = be32toh(len);
	if (name_len > NAME_MAX_LEN || len > MESSAGE_MAX || get(&session->conn, name, name_len) < 0 ||
	    get(&session->conn, gt_buf_reserve(&message, len + 1), len) < 0)
		return -1;
	message.len = len;
	name[name_len] = '\0';
	int status = head[0] == 's' ? give_secret(session, name, &answer) :
		     head[0] == 'a' ? (find_agent(session, name) ? HERE : NONE) :
		     head[0] == 'm' ? give_message(session, name, &message, &answer) :
				      NONE;
	uint8_t out[5] = { (uint8_t)status };
	uint32_t size = htobe32((uint32_t)answer.len);
	memcpy(out + 1, &size, sizeof size);
	int rc = conn_write_all(&session->conn, out, sizeof out) < 0 || conn_write_all(&session->conn, answer.data, answer.len) < 0 ? -1 : 0;
	if (answer.data)
		explicit_bzero(answer.data, answer.cap);
	gt_buf_free(&answer);
	return rc;
}

static void *serve(void *arg)
{
	while (serve_one(arg) == 0)
		;
	return NULL;
}

/* ---- life ---- */

static void session_free(struct build_session *session)
{
	for (size_t i = 0; i < session->secret_count; i++)
		secret_free(&session->secrets[i]);
	for (size_t i = 0; i < session->agent_count; i++) {
		free(session->agents[i].id);
		free(session->agents[i].socket);
		if (session->agents[i].fd >= 0)
			close(session->agents[i].fd);
	}
	conn_close(&session->conn);
	free(session->secrets);
	free(session->agents);
	free(session);
}

static int begin(struct cli *cli, struct build_session *session, struct gt_error *err)
{
	AUTO_BUF struct gt_buf url = { 0 };
	AUTO_BUF struct gt_buf early = { 0 };
	gt_id_new(session->id);
	url_path(&url, "/build/session");
	url_param(&url, "id", session->id);
	struct http_request request = { .method = "POST", .path = url.data, .upgrade = true };
	struct http_response *response = api_open(cli, &request, err);
	if (!response)
		return gt_context(err, "--secret and --ssh");
	session->conn = http_hijack(response, &early);
	http_close(response);
	conn_set_blocking(&session->conn, true);
	int failed = early.len ? EPROTO : pthread_create(&session->thread, NULL, serve, session);
	return failed ? gt_fail_errno(err, failed, "begin the session of the build") : 0;
}

int build_session_open(struct cli *cli, const struct args *args, struct build_session **out, struct gt_error *err)
{
	const struct gt_strings *secrets = arg_list(args, "secret"), *agents = arg_list(args, "ssh");
	*out = NULL;
	if (secrets->count == 0 && agents->count == 0)
		return 0;
	struct build_session *session = gt_xcalloc(1, sizeof *session);
	session->conn.fd = -1;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < secrets->count; i++)
		rc = add_secret(session, secrets->items[i], err);
	for (size_t i = 0; rc == 0 && i < agents->count; i++)
		rc = add_agent(session, agents->items[i], err);
	if (rc == 0)
		rc = begin(cli, session, err);
	if (rc < 0)
		session_free(session);
	else
		*out = session;
	return rc;
}

const char *build_session_id(const struct build_session *session)
{
	return session ? session->id : NULL;
}

void build_session_close(struct build_session *session)
{
	if (!session)
		return;
	shutdown(session->conn.fd, SHUT_RDWR);
	pthread_join(session->thread, NULL);
	session_free(session);
}
