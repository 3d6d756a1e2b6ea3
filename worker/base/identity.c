#include "worker/base/identity.h"

#include <stdio.h>
#include <string.h>

#define PREFIX "campaign-worker/"

/* A slash of the instance's own is written %2F: read from the end, the slashes tell role, instance and group apart. */
void identity_client_id(char *id, const char *instance, const char *role)
{
	char *p = stpcpy(id, PREFIX), *end = id + CLIENT_ID_SIZE - sizeof "%2F" - strlen(role) - 1;

	for (; *instance && p < end; instance++) {
		if (*instance == '/' || *instance == '%')
			p += sprintf(p, "%%%02X", (unsigned char)*instance);
		else
			*p++ = *instance;
	}
	sprintf(p, "/%s", role);
}

void identity_transactional_id(char *id, const char *group, const char *instance, const char *role)
{
	char client_id[CLIENT_ID_SIZE];

	identity_client_id(client_id, instance, role);
	snprintf(id, TRANSACTIONAL_ID_SIZE, "%s.%s", group, client_id);
}

void identity_former_transactional_id(char *id, const char *group, const char *instance, int lane)
{
	snprintf(id, TRANSACTIONAL_ID_SIZE, "%s.%s.%d", group, instance, lane);
}

const char *identity_client_of(const char *transactional_id, const char *group)
{
	size_t prefix = strlen(group) + 1;

	return strlen(transactional_id) > prefix ? transactional_id + prefix : NULL;
}

bool identity_is_worker(const char *client_id)
{
	return strncmp(client_id, PREFIX, strlen(PREFIX)) == 0;
}
