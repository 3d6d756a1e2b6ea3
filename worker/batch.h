/* A batch: records from fetched to published. Filling one decodes what is ready and applies the rules that need no database. */
#ifndef BATCH_H
#define BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/codec.h"
#include "schemas/record.h"
#include "worker/base/arena.h"
#include "worker/db/ownership.h"
#include "worker/kafka/consumer.h"
#include "worker/kafka/publisher.h"

struct batch {
	struct arena *arena; /* all it refers to, but the records, which are the consumer's */
	struct job *jobs;
	struct job **order;  /* pointers to jobs, for the executor */
	size_t count, bytes;
	int32_t only;        /* the partition that it is filled from alone; CONSUMER_ALL: no single one */
	struct batch_offset *offsets;    /* of each partition that occurs, ascending */
	struct fence_partition *fences;
	size_t offset_count;
	uint32_t *traces;    /* hash table of (account group, trace): job index + 1 */
	size_t trace_slots;  /* a power of two */
	struct fault fault;  /* FAULT_WAIT: why the next record cannot be decoded now, as batch_fill found; FAULT_NONE otherwise */
};

/* What a batch is filled from. */
struct batch_source {
	struct consumer *consumer;
	struct codec *codec;
	const struct contract *contract;
	const struct fence_partition *partitions; /* those that run, ascending: epoch, and where the unpublished begins */
	size_t partition_count;
	size_t count_max, bytes_max; /* commands; bytes of them, received and decoded */
};

void batch_init(struct batch *batch, size_t count_max); /* at the utmost, whatever a source says */
void batch_destroy(struct batch *batch);
/* Room for that many partitions; what is in it is dropped. */
void batch_resize(struct batch *batch, size_t partitions);
/* Forgets what is in it. */
void batch_clear(struct batch *batch);

/* Adds what the consumer has ready, until the batch is full, or ends before a record that cannot be decoded now. One batch is
 * filled at a time. */
void batch_fill(struct batch *batch, const struct batch_source *source);

/* One line a command. */
void batch_log(const struct batch *batch, const struct contract *contract);

#endif
