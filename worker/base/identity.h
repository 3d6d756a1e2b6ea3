/* Names of a lane in Kafka. The transactional.id is the group, a dot, and the client.id of the lane's consumer, so that an
 * owner's transactional.id tells whom to look for among the group's members. No two workers that differ in group, instance
 * or lane have one transactional.id. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include <stdbool.h>
#include <stddef.h>

#define TRANSACTIONAL_ID_SIZE 512
#define CLIENT_ID_SIZE 384

/* id: of size CLIENT_ID_SIZE; role: "0", "1" ... for the lanes. */
void identity_client_id(char *id, const char *instance, const char *role);
/* id: of size TRANSACTIONAL_ID_SIZE. */
void identity_transactional_id(char *id, const char *group, const char *instance, const char *role);
/* The transactional.id that earlier versions gave that lane. Another group's and instance's may be the same text. */
void identity_former_transactional_id(char *id, const char *group, const char *instance, int lane);

/* The client.id that belongs to a transactional.id, of this version or an earlier one; NULL: to none. */
const char *identity_client_of(const char *transactional_id, const char *group);
/* Whether a client.id is a worker's. */
bool identity_is_worker(const char *client_id);

#endif
