/*
 * main.c - the gantry command. All of it is in cli.c and the files of the command families, so that tests can link it.
 */
#include "cli.h"

int main(int argc, char **argv)
{
	return cli_main(argc, argv);
}
