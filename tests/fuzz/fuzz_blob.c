/* Compressed blobs of any kind: a flag byte, then the bytes; they come from a file or, where the flag says so, in pieces from a pipe. */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../core/image/internal.h"

#define MAX_OUT (16 << 20)

static int as_pipe(const uint8_t *data, size_t size)
{
	int ends[2];
	MUST(pipe2(ends, O_CLOEXEC) == 0);
	MUST(fcntl(ends[1], F_SETPIPE_SZ, 1 << 16) > 0 && gt_write_full(ends[1], data, size) == 0);
	close(ends[1]);
	return ends[0];
}

static int as_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("blob", MFD_CLOEXEC);
	MUST(fd >= 0 && gt_write_full(fd, data, size) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gt_error err = { 0 };
	char out[65536], hex[65], wanted[65];
	int64_t length = -1, total = 0;
	if (size < 1 || size > 32768)
		return 0;
	bool piped = data[0] & 1;
	size_t room = data[0] & 2 ? sizeof out : 7;
	AUTO_CLOSE int fd = piped ? as_pipe(data + 1, size - 1) : as_file(data + 1, size - 1);
	struct blob blob = { .fd = fd, .length = piped ? -1 : (int64_t)size - 1 };
	struct blob_reader *reader = blob_open(&blob);
	ssize_t got;
	while ((got = blob_read(reader, out, room, &err)) > 0 && total < MAX_OUT) {
		MUST((size_t)got <= room);
		total += got;
	}
	if (got == 0) {
		MUST(blob_finish(reader, hex, &length, &err) == 0 && length == (int64_t)size - 1);
		digest_of(data + 1, size - 1, wanted);
		MUST(strcmp(hex, wanted) == 0 && strchr("gzp?", blob_format(reader)));
	} else {
		MUST(got > 0 || err.message[0]);
	}
	blob_close(reader);
	return 0;
}
