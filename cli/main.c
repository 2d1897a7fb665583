/*
 * main.c - the gantry command. All of it is in cli.c and the files of the command families, so that tests can link it.
 */
#include <fcntl.h>

#include "cli.h"

int main(int argc, char **argv)
{
	/* A standard stream that the caller closed must not become the connection to the daemon. */
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
	return cli_main(argc, argv);
}
