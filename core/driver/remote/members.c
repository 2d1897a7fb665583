/*
 * members.c - drivers of families (driver/family.c) whose plugin has a process of its own.
 *
 * The process knows a member by a number that the daemon gives it with open(). What a new process must be told of it is kept here in a copy, which stays as long
 * as the plugin once the member was open: the thread of the process reads it while the member itself may go.
 */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "remote.h"

struct member {
	struct driver self;          /* no context; names and directories are its own */
	bool opened;                    /* and is to be in every process */
	bool lost;                      /* the process that runs has not been able to open it */
};

static void member_free(struct member *member)
{
	if (!member)
		return;
	free((char *)(uintptr_t)member->self.name);
	free(member->self.state_dir);
	free(member->self.run_dir);
	free(member);
}

/* The lock is held. */
static struct member *find(const struct remote *remote, uint32_t number)
{
	return number > 0 && number <= remote->member_count ? remote->members[number - 1] : NULL;
}

void remote_member_add(struct remote *remote, struct driver *driver)
{
	struct member *member = gt_xcalloc(1, sizeof *member);
	struct driver *self = &member->self;
	self->all = driver->all;
	self->plugin = driver->plugin;
	self->kind = driver->kind;
	self->index = driver->index;
	self->name = gt_xstrdup(driver->name);
	self->state_dir = gt_xstrdup(driver->state_dir);
	self->run_dir = gt_xstrdup(driver->run_dir);
	self->durable = driver->durable;
	self->records = driver->records;
	self->ops = driver->ops;
	host_fill(self);
	LOCKED(&remote->lock);
	size_t at = 0;
	while (at < remote->member_count && remote->members[at])
		at++;
	if (at == remote->member_count) {
		remote->members = gt_xrealloc(remote->members, (at + 1) * sizeof(struct member *));
		remote->member_count++;
	}
	remote->members[at] = member;
	driver->member = self->member = (uint32_t)(at + 1);
}

void remote_member_drop(struct remote *remote, struct driver *driver)
{
	struct member *member;
	{
		LOCKED(&remote->lock);
		member = find(remote, driver->member);
		if (member && !member->opened) {
			remote->members[driver->member - 1] = NULL;
		} else {
			if (member)
				member->opened = false;
			member = NULL;
		}
	}
	driver->member = 0;
	member_free(member);
}

void remote_member_is_open(struct remote *remote, uint32_t number, bool lost)
{
	struct member *member = find(remote, number);
	if (!member)
		return;
	member->opened = true;
	member->lost = lost;
}

bool remote_member_is_lost(struct remote *remote, uint32_t number)
{
	LOCKED(&remote->lock);
	const struct member *member = find(remote, number);
	return member && member->lost;
}

struct driver **remote_members_open(struct remote *remote)
{
	LOCKED(&remote->lock);
	struct driver **list = gt_xcalloc(remote->member_count + 1, sizeof(struct driver *));
	for (size_t i = 0, at = 0; i < remote->member_count; i++) {
		if (remote->members[i] && remote->members[i]->opened)
			list[at++] = &remote->members[i]->self;
	}
	return list;
}

struct driver *remote_member_speaking(struct remote *remote, uint32_t number)
{
	LOCKED(&remote->lock);
	struct member *member = find(remote, number);
	return member && member->opened ? &member->self : NULL;
}

void remote_members_free(struct remote *remote)
{
	for (size_t i = 0; i < remote->member_count; i++)
		member_free(remote->members[i]);
	free(remote->members);
}
