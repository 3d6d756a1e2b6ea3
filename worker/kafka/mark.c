#include "worker/kafka/mark.h"

#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/must.h"

static const char mark[] = "campaign-worker";

void mark_set(struct rd_kafka_topic_partition_s *offset)
{
	offset->metadata = must(strdup(mark)); /* the list frees it */
	offset->metadata_size = sizeof mark - 1;
}

bool mark_is_set(const struct rd_kafka_topic_partition_s *offset)
{
	return offset->metadata_size == sizeof mark - 1 && memcmp(offset->metadata, mark, sizeof mark - 1) == 0;
}
