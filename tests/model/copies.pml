/* worker/protocol.txt, COPIES, for spin: RECORDS records of one trace in one partition, with any digests and timestamps, and one
 * worker that may die between any two steps. What holds with other workers is protocol.pml's. The verdict of the outside state
 * is free each time a command is judged, that of the rate limit hangs on the record's timestamp.
 *
 *   fetch      batch.c add_trace: a copy joins the batch, another command of the trace ends it
 *   execute    executor.c: the first is judged and committed, the copies take its outcome
 *   publish    publisher.c
 */
#ifndef RECORDS
#define RECORDS 3
#endif

/* The rules; 0 leaves one out. */
#ifndef SHARE
#define SHARE 1         /* a copy shares the first one's outcome; 0: every second record of the trace ends the batch */
#endif
#ifndef SAME_DIGEST
#define SAME_DIGEST 1   /* a copy is a record with the same digest */
#endif
#ifndef OWN_TIME
#define OWN_TIME 1      /* rate_limited is shared between records of one timestamp alone; others are judged one by one */
#endif

/* The promises, as protocol.pml has them; 64: each record is rated at its own timestamp. */
#ifndef PROMISES
#define PROMISES 127
#endif
#define promise(bit, condition) assert(!(PROMISES & bit) || (condition))

#define REFUSED 1       /* a result: an error; */
#define LIMITED 2       /* rate_limited; */
#define ID(r) (3 + (r)) /* the draft that this record wrote */

bool digest[RECORDS], stamp[RECORDS];
bool over[2];           /* whether the rate limit is used up at a timestamp */
byte result[RECORDS];   /* visible to subscribers */
byte committed;
byte draft;             /* of the trace; 0: none */
bool draft_digest;
bool calm;              /* no more deaths */
byte i;                 /* within one step */

#define is_copy(r, first) (SHARE && (!SAME_DIGEST || digest[r] == digest[first]))

inline judge(r) {
	if
	:: draft != 0 && draft_digest == digest[r] -> outcome = draft
	:: draft != 0 && draft_digest != digest[r] -> outcome = REFUSED /* trace_reused */
	:: draft == 0 && over[stamp[r]] -> outcome = LIMITED
	:: draft == 0 && !over[stamp[r]] -> outcome = REFUSED
	:: draft == 0 && !over[stamp[r]] -> outcome = ID(r); draft = ID(r); draft_digest = digest[r]
	fi
}

/* CD003: the statement is told which commands have copies of other timestamps. */
inline limit() {
	for (i : start .. start + n - 1) {
		if :: OWN_TIME && outcome == LIMITED && stamp[i] != stamp[start] -> n = 1; break :: else fi
	}
}

inline publish() {
	for (i : start .. start + n - 1) {
		promise(2, result[i] == 0);
		promise(4, outcome <= LIMITED || (outcome == draft && digest[i] == draft_digest));
		promise(4, outcome > LIMITED || draft != ID(i));
		promise(64, outcome != LIMITED || over[stamp[i]]);
		result[i] = outcome
	}
	committed = start + n;
	for (i : 0 .. committed - 1) { promise(8, result[i] != 0) }
}

active proctype Worker() {
	byte start, n, outcome;

	atomic {
		for (i : 0 .. RECORDS - 1) {
			if :: digest[i] = true :: skip fi;
			if :: stamp[i] = true :: skip fi
		}
		if :: over[0] = true :: skip fi;
		if :: over[1] = true :: skip fi
	};

fetch:	atomic {
		start = committed; outcome = 0; n = 0;
		if :: start == RECORDS -> goto finished :: else -> n = 1 fi;
		do
		:: start + n < RECORDS && is_copy(start + n, start) -> n++
		:: break /* no more is there yet */
		od
	};

execute: atomic {
		if
		:: judge(start); limit() /* and its COMMIT */
		:: !calm -> goto fetch
		fi
	};

executed: atomic {
		if
		:: publish(); goto fetch
		:: !calm -> goto fetch
		:: !calm -> calm = true; goto executed
		fi
	};

finished:
	promise(16, committed == RECORDS);
	promise(1, draft <= ID(RECORDS - 1))
}
