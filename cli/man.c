/*
 * man.c - manual pages from the table of commands: gantry.1, and gantry-COMMAND.1 for each name a command has.
 */
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "cli.h"
#include "other.h"

/* Text that means nothing to troff. */
static void put(struct gt_buf *out, const char *text)
{
	bool start = out->len == 0 || out->data[out->len - 1] == '\n';
	for (; *text; text++) {
		if (start && (*text == '.' || *text == '\''))
			gt_buf_str(out, "\\&");
		if (*text == '\\')
			gt_buf_str(out, "\\e");
		else if (*text == '-')
			gt_buf_str(out, "\\-");
		else
			gt_buf_char(out, *text);
		start = *text == '\n';
	}
}

static void put_paragraphs(struct gt_buf *out, const char *text)
{
	while (*text) {
		const char *end = strstr(text, "\n\n");
		AUTO_FREE char *paragraph = end ? gt_xstrndup(text, (size_t)(end - text)) : gt_xstrdup(text);
		gt_buf_str(out, ".PP\n");
		put(out, paragraph);
		gt_buf_char(out, '\n');
		text = end ? end + 2 : "";
	}
}

static void put_flags(struct gt_buf *out, const struct flag *flags)
{
	for (; flags && flags->name; flags++) {
		const char *type = flag_type_name(flags);
		if (flags->hidden || flags->refuse || flags->alias)
			continue;
		gt_buf_str(out, ".TP\n");
		if (flags->letter)
			gt_buf_printf(out, "\\fB\\-%c\\fR, ", flags->letter);
		gt_buf_str(out, "\\fB\\-\\-");
		put(out, flags->name);
		gt_buf_printf(out, "\\fR%s%s%s\n", type ? " \\fI" : "", type ? type : "", type ? "\\fR" : "");
		put(out, flags->doc);
		if (flags->initial && *flags->initial) {
			gt_buf_str(out, " (default ");
			put(out, flags->initial);
			gt_buf_char(out, ')');
		}
		gt_buf_char(out, '\n');
	}
}

static void put_head(struct gt_buf *out, const char *page, const char *summary)
{
	AUTO_FREE char *title = gt_xstrdup(page);
	for (char *p = title; *p; p++)
		*p = (char)toupper((unsigned char)*p);
	gt_buf_printf(out, ".TH \"%s\" 1 \"\" \"Gantry %s\" \"Gantry\"\n.SH NAME\n", title, GANTRY_VERSION);
	put(out, page);
	gt_buf_str(out, " \\- ");
	put(out, summary);
	gt_buf_str(out, "\n.SH SYNOPSIS\n");
}

static char *page_name(const char *path)
{
	char *name = gt_xasprintf("gantry-%s", path);
	for (char *p = name; *p; p++) {
		if (*p == ' ')
			*p = '-';
	}
	return name;
}

struct pages {
	int dirfd;
	struct gt_error *err;
	struct gt_buf index;            /* of gantry.1 */
	bool failed;
};

static void write_page(struct pages *pages, const char *name, const struct gt_buf *text)
{
	AUTO_FREE char *file = gt_xasprintf("%s.1", name);
	if (!pages->failed && gt_replace_file(pages->dirfd, file, text->data, text->len, 0644, false, pages->err) < 0)
		pages->failed = true;
}

static void write_command(const struct command *command, const char *path, void *arg)
{
	struct pages *pages = arg;
	AUTO_FREE char *name = page_name(path);
	AUTO_BUF struct gt_buf out = { 0 };
	put_head(&out, name, command->summary);
	gt_buf_str(&out, "\\fBgantry ");
	put(&out, path);
	gt_buf_str(&out, "\\fR ");
	for (const char *p = command->usage; *p; p++) {
		if (*p == '\n')
			gt_buf_str(&out, "\n.br\n");
		else if (*p != '\t')
			put(&out, (char[]){ *p, '\0' });
	}
	gt_buf_str(&out, "\n.SH DESCRIPTION\n");
	put(&out, command->summary);
	gt_buf_str(&out, ".\n");
	if (command->details)
		put_paragraphs(&out, command->details);
	if (flags_count(command->flags) > 0) {
		gt_buf_str(&out, ".SH OPTIONS\n");
		put_flags(&out, command->flags);
	}
	gt_buf_str(&out, ".SH SEE ALSO\n\\fBgantry\\fR(1), \\fBgantryd\\fR(8)\n");
	write_page(pages, name, &out);
	gt_buf_str(&pages->index, ".TP\n\\fB");
	put(&pages->index, path);
	gt_buf_str(&pages->index, "\\fR\n");
	put(&pages->index, command->summary);
	gt_buf_char(&pages->index, '\n');
}

static void write_family(const struct command *command, const char *path, void *arg)
{
	if (command->run)
		write_command(command, path, arg);
	else
		command_each(path, write_command, arg);
}

static void write_top(struct pages *pages)
{
	AUTO_BUF struct gt_buf out = { 0 };
	put_head(&out, "gantry", "run and manage containers");
	gt_buf_str(&out, "\\fBgantry\\fR [OPTIONS] COMMAND [ARG...]\n.SH DESCRIPTION\n"
			 "gantry is the command line of the Gantry container engine. It speaks the Docker Engine API with\n"
			 "\\fBgantryd\\fR(8), over a unix socket or over TCP with TLS client certificates.\n.SH OPTIONS\n");
	put_flags(&out, global_flags);
	gt_buf_str(&out, ".SH COMMANDS\n");
	gt_buf_add(&out, pages->index.data, pages->index.len);
	gt_buf_str(
		&out,
		".SH EXIT STATUS\n"
		"0 on success, 1 on failure. \\fBrun\\fR, \\fBexec\\fR and \\fBstart \\-a\\fR give back the "
		"container's own status;\n"
		"125: the daemon refused, or the command line is wrong; 126: the command cannot be executed; 127: it "
		"was not found.\n"
		".SH ENVIRONMENT\n"
		".TP\n\\fBGANTRY_HOST\\fR, \\fBDOCKER_HOST\\fR\nThe daemon, where \\-\\-host is not given.\n"
		".TP\n\\fBGANTRY_TLS_VERIFY\\fR, \\fBDOCKER_TLS_VERIFY\\fR\nWhere not empty: as \\-\\-tlsverify.\n"
		".TP\n\\fBGANTRY_CERT_PATH\\fR, \\fBDOCKER_CERT_PATH\\fR\nDirectory of ca.pem, cert.pem and key.pem.\n"
		".TP\n\\fBGANTRY_CONFIG\\fR, \\fBDOCKER_CONFIG\\fR\nDirectory of config.json (default ~/.docker).\n"
		".TP\n\\fBGANTRY_API_VERSION\\fR, \\fBDOCKER_API_VERSION\\fR\nThe version of the API to speak.\n"
		".SH FILES\n.TP\n\\fI/run/gantry/gantry.sock\\fR\nThe daemon's socket.\n"
		".SH SEE ALSO\n\\fBgantryd\\fR(8)\n");
	write_page(pages, "gantry", &out);
}

int man_write_all(const char *dir, struct gt_error *err)
{
	struct pages pages = { .err = err };
	if (gt_mkdirs(AT_FDCWD, dir, 0755, err) < 0)
		return -1;
	AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return gt_fail_errno(err, errno, "cannot open %s", dir);
	pages.dirfd = fd;
	command_each("", write_family, &pages);
	write_top(&pages);
	gt_buf_free(&pages.index);
	return pages.failed ? -1 : 0;
}

int command_man(struct cli *cli, struct args *args, struct gt_error *err)
{
	(void)cli;
	return man_write_all(args->operands[0], err);
}
