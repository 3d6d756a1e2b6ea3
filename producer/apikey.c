#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "producer/tool.h"

#define KEY_MAX 4096 /* of campaign_key_digest */

static int digest_of(const char *key, size_t size, const char *where, uint8_t digest[CAMPAIGN_DIGEST_BYTES], struct fault *fault)
{
	struct campaign_error error;

	if (campaign_key_digest(key, size, digest, &error) == 0)
		return 0;
	return fault_set(fault, FAULT_FATAL, "%s: %s", where, error.message);
}

static int digest_of_file(const char *path, uint8_t digest[CAMPAIGN_DIGEST_BYTES], struct fault *fault)
{
	char key[KEY_MAX + 3]; /* room for a line break, and to see that it is longer */
	size_t size = 0;
	ssize_t got = 1;
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return fault_set(fault, FAULT_FATAL, "%s: %s", path, strerror(errno));
	while (size < sizeof key && (got = read(fd, key + size, sizeof key - size)) > 0)
		size += (size_t)got;
	rc = got < 0 ? fault_set(fault, FAULT_FATAL, "%s: %s", path, strerror(errno)) : 0;
	close(fd);
	if (size > 0 && key[size - 1] == '\n')
		size--;
	if (size > 0 && key[size - 1] == '\r')
		size--;
	if (rc == 0)
		rc = digest_of(key, size, path, digest, fault);
	explicit_bzero(key, sizeof key);
	return rc;
}

int apikey_digest(const char *path, uint8_t digest[CAMPAIGN_DIGEST_BYTES], bool *given, struct fault *fault)
{
	const char *key = path ? NULL : getenv("CAMPAIGN_API_KEY");

	*given = path || key;
	if (path)
		return digest_of_file(path, digest, fault);
	return key ? digest_of(key, strlen(key), "CAMPAIGN_API_KEY", digest, fault) : 0;
}
