/* What every librdkafka client of ours shares: properties, log lines, names. (The types are librdkafka's, declared here
 * so that its header stays out of ours.) */
#ifndef KAFKA_H
#define KAFKA_H

#include <stdint.h>

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/properties.h"

struct rd_kafka_s;
struct rd_kafka_conf_s;

/* A librdkafka configuration with our defaults for that client, the user's properties over them, and the values the
 * promises rest on last. NULL with FAULT_FATAL naming the property and where it was given. The caller owns it until
 * kafka_new_take, and sets group.id or transactional.id and its callbacks. librdkafka's log lines become events kafka_<facility>
 * (an admin client's do not: its caller says what went wrong). */
struct rd_kafka_conf_s *kafka_conf_new(const struct config *config, enum kafka_client client, struct fault *fault) MUST_CHECK;
/* Sets one property; FAULT_FATAL names it. */
int kafka_conf_set(struct rd_kafka_conf_s *conf, const char *name, const char *value, struct fault *fault) MUST_CHECK;
/* Makes a client of it, taking conf also on failure. */
struct rd_kafka_s *kafka_new_take(struct rd_kafka_conf_s *conf, enum kafka_client client, struct fault *fault) MUST_CHECK;

const char *kafka_version(void); /* librdkafka's */

#endif
