#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(void)
{
	static const char text[] = "gantry: out of memory\n";
	fwrite(text, 1, sizeof text - 1, stderr);
	abort();
}

void *gt_xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);
	if (!p)
		out_of_memory();
	return p;
}

void *gt_xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);
	if (!p)
		out_of_memory();
	return p;
}

void *gt_xrealloc(void *old, size_t size)
{
	void *p = realloc(old, size ? size : 1);
	if (!p)
		out_of_memory();
	return p;
}

char *gt_xstrdup(const char *text)
{
	return text ? gt_xstrndup(text, strlen(text)) : NULL;
}

char *gt_xstrndup(const char *text, size_t len)
{
	len = strnlen(text, len);
	char *copy = gt_xmalloc(len + 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

char *gt_xasprintf(const char *fmt, ...)
{
	struct gt_buf buf = { 0 };
	va_list ap;
	va_start(ap, fmt);
	gt_buf_vprintf(&buf, fmt, ap);
	va_end(ap);
	return gt_buf_take(&buf);
}

char *gt_buf_reserve(struct gt_buf *buf, size_t extra)
{
	if (extra > (size_t)-1 / 4 - buf->len)
		out_of_memory();
	size_t need = buf->len + extra + 1;
	if (need > buf->cap) {
		size_t cap = buf->cap ? buf->cap * 2 : 64;
		buf->cap = cap > need ? cap : need;
		buf->data = gt_xrealloc(buf->data, buf->cap);
	}
	return buf->data + buf->len;
}

void gt_buf_add(struct gt_buf *buf, const void *bytes, size_t len)
{
	char *end = gt_buf_reserve(buf, len);
	if (len)
		memcpy(end, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void gt_buf_str(struct gt_buf *buf, const char *text)
{
	gt_buf_add(buf, text, strlen(text));
}

void gt_buf_char(struct gt_buf *buf, char c)
{
	gt_buf_add(buf, &c, 1);
}

void gt_buf_vprintf(struct gt_buf *buf, const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	int len = vsnprintf(NULL, 0, fmt, ap);
	if (len > 0) {
		char *end = gt_buf_reserve(buf, (size_t)len);
		vsnprintf(end, (size_t)len + 1, fmt, again);
		buf->len += (size_t)len;
	}
	va_end(again);
}

void gt_buf_printf(struct gt_buf *buf, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	gt_buf_vprintf(buf, fmt, ap);
	va_end(ap);
}

void gt_buf_consume(struct gt_buf *buf, size_t n)
{
	if (n >= buf->len) {
		gt_buf_reset(buf);
		return;
	}
	memmove(buf->data, buf->data + n, buf->len - n + 1);
	buf->len -= n;
}

void gt_buf_reset(struct gt_buf *buf)
{
	buf->len = 0;
	if (buf->data)
		buf->data[0] = '\0';
}

void gt_buf_free(struct gt_buf *buf)
{
	free(buf->data);
	*buf = (struct gt_buf){ 0 };
}

char *gt_buf_take(struct gt_buf *buf)
{
	gt_buf_reserve(buf, 0)[0] = '\0';
	char *data = buf->data;
	*buf = (struct gt_buf){ 0 };
	return data;
}
