/* One error type for the whole program. The kind says what the caller may do next. It is set where the error is understood:
 * worker/db knows SQLSTATEs, worker/kafka transactional errors, schemas bytes. */
#ifndef FAULT_H
#define FAULT_H

enum fault_kind {
	FAULT_NONE,
	FAULT_RETRY,   /* nothing was written; the same call may be made again after a pause, a bounded number of times */
	FAULT_REJECT,  /* this record or command alone is at fault; isolate it, answer it, go on */
	FAULT_FENCED,  /* somebody else owns the partition: drop the batch, start over */
	FAULT_ABORT,   /* the Kafka transaction was aborted: drop the batch, start over */
	FAULT_REBUILD, /* the Kafka client is unusable: make a new one, then start over */
	FAULT_WAIT,    /* the system's fault (server away, table missing, disk full): wait, reconnect, claim, start over */
	FAULT_STOP,    /* the caller asked to stop while waiting */
	FAULT_FATAL,   /* a person must change something: log it and exit */
};

struct fault {
	enum fault_kind kind;
	char sqlstate[6]; /* from PostgreSQL, "" otherwise */
	char msg[512];    /* one line; never a payload, a digest or a password */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Fills f (sqlstate is cleared; line breaks become blanks) and returns -1, so that `return fault_set(...)` reads well. */
int fault_set(struct fault *f, enum fault_kind kind, const char *fmt, ...) PRINTF(3, 4);

#endif
