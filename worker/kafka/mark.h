/* The mark that a worker's commits bear as their metadata: a committed offset without it is somebody else's (protocol.txt,
 * rule 7). */
#ifndef MARK_H
#define MARK_H

#include <stdbool.h>

struct rd_kafka_topic_partition_s;

/* Marks an offset that is to be committed. */
void mark_set(struct rd_kafka_topic_partition_s *offset);
/* Whether an offset that was fetched is marked. */
bool mark_is_set(const struct rd_kafka_topic_partition_s *offset);

#endif
