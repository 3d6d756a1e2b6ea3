/* Parking: which partitions of a lane wait for rows that another session has locked, and when they are tried again. A batch that
 * meets a lock is given up at once: its partitions are tried one by one, and those that meet it alone are parked. A parked
 * partition is tried again alone, with ever fewer commands until the one that needs the rows is alone, at growing intervals. The
 * other partitions go on. This module asks no server, and its callers hand it the time. */
#ifndef PARKING_H
#define PARKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct parked {
	int32_t partition;
	size_t limit;         /* commands of the next try */
	bool held;            /* it met the lock alone: it is not fetched either */
	int64_t alone_at_ms;  /* since when its first command meets the lock alone; 0: it does not */
	int64_t retry_at_ms, pause_ms, told_at_ms;
};

struct parking {
	struct parked *entries;
	size_t count;
	int64_t patience_ms; /* of one command */
};

void parking_init(struct parking *parking, int64_t patience_ms);
void parking_clear(struct parking *parking);

/* A batch of this partition and others met a lock: it is to be tried alone, at once. */
void parking_doubt(struct parking *parking, int32_t partition, size_t limit, int64_t now_ms);
struct parked *parking_find(const struct parking *parking, int32_t partition); /* NULL: it is not parked */
/* The partition to try now; NULL: none is due. Valid until the next call that adds or removes one. */
struct parked *parking_due(const struct parking *parking, int64_t now_ms);
/* n commands met the lock, alone. */
void parking_locked(struct parked *parked, size_t n, int64_t now_ms);
/* A try was executed: the next one may be larger. */
void parking_passed(struct parked *parked, int64_t now_ms);
void parking_remove(struct parking *parking, struct parked *parked);

/* Whether the first command has waited for as long as a command may: it is answered, if it is alone in the next try. */
bool parking_is_over(const struct parking *parking, const struct parked *parked, int64_t now_ms);
/* Whether the log is to tell of the first command's wait now. */
bool parking_tells(struct parked *parked, int64_t now_ms);

#endif
