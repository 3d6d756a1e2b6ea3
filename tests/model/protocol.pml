/* worker/protocol.txt for spin: two workers, one partition, COMMANDS commands, and every fault of the list below as often
 * as it likes. A pause is any delay between two steps; a worker whose partition has moved on goes on until something tells
 * it. The verdict of the outside state is free each time a command is judged: a conflict may come and go.
 *
 * Longer than 600 lines: spin takes one model from one file.
 *
 * Steps bear the names of the code's failpoints (dashes are underscores):
 *
 *   restart                        lane.c ensure_clients: publisher_init (InitProducerId), consumer_new (a new member)
 *   join, revoke                   consumer.c on_rebalance, lane.c step
 *   claim_before, claim_after      takeover.c claim, ownership.c ownership_claim, sql/claim.sql
 *   positions, halted              takeover.c end_predecessors, fetch_positions, record_starts; start.c partition_start
 *   check_before, check_after      takeover.c check, consumer.c consumer_check; start
 *   poll, decode                   lane.c step, batch.c batch_fill; takeover.c takeover_maintain (confirm, recommit)
 *   begin ... commit_after         executor.c execute_range, execution.c execution_send, execution_receive; partition_fence() of the schema
 *   ktx_begin ... endtxn_after     publisher.c publisher_publish; inflight.c sees requests that were sent twice
 *   batch_end                      lane.c publish_executed, advance, ensure_publisher (publisher_is_spent); the outcome of the batch ahead
 *   start_over                     lane.c recover
 *   close                          lane.c ensure_consumer (consumer_is_finished), consumer.c consumer_free
 *
 * One batch may be ahead: while one is executed and not yet published, the next is fetched and its pipeline sent (begin
 * with n > 0; executor.c executor_send). Session is what PostgreSQL makes of it meanwhile, in its own time. The outcome is
 * received when Kafka has committed (batch_end), or before the worker starts over (executor.c executor_abandon).
 *
 * Epochs and generations are kept as what is ever asked of them, whether a worker's own is still the present one. So nothing
 * counts up, and faults need no limit for the search to end. Left out: several partitions (but for what a member that has
 * others can do to this one), the breaker's probes, which are rolled back, and records that share an outcome (copies.pml).
 *
 * Some faults bring a halt, and a person with an order to resume: going back to confirmed_offset, or, on another cluster, to the
 * first command without an answer. What lies behind that may be answered again. A backup is taken between two batches: one that
 * was executed again behind it with another outcome, to the same end, is beyond rule 7.
 */
#ifndef COMMANDS
#define COMMANDS 2
#endif

/* The rules; 0 leaves one out. */
#ifndef FENCE
#define FENCE 1         /* a batch begins by checking the partition's epoch in PostgreSQL */
#endif
#ifndef CHECK
#define CHECK 1         /* rule 1: a generation-checked OffsetCommit behind the claim; 2: before it */
#endif
#ifndef MEMBERSHIP
#define MEMBERSHIP 1    /* rule 1: a member of the group before and behind that call */
#endif
#ifndef SAME_ASSIGNMENT
#define SAME_ASSIGNMENT 1 /* rule 1: no OffsetCommit for an assignment that has been replaced meanwhile */
#endif
#ifndef REJOIN
#define REJOIN 1        /* rule 1: joins anew when that OffsetCommit was sent twice or not answered */
#endif
#ifndef RECLAIM
#define RECLAIM 1       /* rule 2: claims again after a COMMIT whose answer was lost */
#endif
#ifndef NEW_EPOCH
#define NEW_EPOCH 1     /* rule 2: with a new epoch, also when the row is its own */
#endif
#ifndef OWN_CLAIM
#define OWN_CLAIM 1     /* rule 3: the claim is a transaction of its own; 0: claims and looks in one older snapshot */
#endif
#ifndef LOCK
#define LOCK 1          /* rule 3: the fence takes a lock that a claim waits for; 0: FOR KEY SHARE, which it does not */
#endif
#ifndef METADATA
#define METADATA 1      /* rule 4: offsets carry the generation of the batch; 0: none; 2: the one that holds when sending */
#endif
#ifndef STABLE
#define STABLE 1        /* rule 4: OffsetFetch waits for pending offsets */
#endif
#ifndef RENEW
#define RENEW 1         /* rule 5: a new producer epoch after a transactional request that was sent twice */
#endif
#ifndef RESOLVE
#define RESOLVE 1       /* rule 5: and before it starts over after a transaction that nobody knows the end of */
#endif
#ifndef CONFIRM
#define CONFIRM 1       /* confirmed_offset is kept, and what lies below it is not answered again */
#endif
#ifndef EXECUTED
#define EXECUTED (FRESH || STRANGER || RESTORE || MOVED || RETENTION) /* rule 7: executed_offset, and halts where the group's offset is
                         * beyond it; 2: never halts for it */
#endif
#ifndef MARK
#define MARK 1          /* rule 7: and where it is beyond confirmed_offset, and bears no worker's mark */
#endif
#ifndef RECORD
#define RECORD 1        /* rule 7: PostgreSQL records a start before the group commits it; 2: behind that */
#endif
#ifndef LAST_PART
#define LAST_PART 1     /* rule 7: the last transaction of a batch writes its end; 0: the first */
#endif
#ifndef GO_BACK
#define GO_BACK 1       /* rule 7: a person resumes from confirmed_offset; 0: from executed_offset */
#endif
#ifndef SAME_CLUSTER
#define SAME_CLUSTER 1  /* rule 8: halts where the rows are another cluster's */
#endif
#ifndef BEHIND
#define BEHIND 1        /* rule 9: confirms and commits the end of the partition, behind control records; 2: the group first */
#endif
#ifndef UNIQUE
#define UNIQUE 1        /* UNIQUE (account_group_id, trace_id) */
#endif
#ifndef DATABASE_FIRST
#define DATABASE_FIRST 1 /* PostgreSQL commits before Kafka does */
#endif
#ifndef OVERLAP
#define OVERLAP DATABASE_FIRST /* a batch is sent to PostgreSQL while the one before it is published */
#endif
#ifndef AHEAD_START
#define AHEAD_START 1   /* the fence of a batch ahead confirms the start of the one that is not published; 0: its own */
#endif
#ifndef AHEAD_ORDER
#define AHEAD_ORDER 1   /* a batch ahead is dropped unless the one before it is known to be published */
#endif
#ifndef AHEAD_CLAIM
#define AHEAD_CLAIM 1   /* claims again also when only Kafka's transaction failed; 0: goes back to the committed offset */
#endif
#ifndef AHEAD_DROP
#define AHEAD_DROP 1    /* a revoke that the poll for a batch ahead serves drops the one that is executed */
#endif
#ifndef LOOK
#define LOOK 1          /* a command that the database fails alone is refused only if its draft is not there already */
#endif

/* The faults; 1: as often as it likes. */
#ifndef CRASH
#define CRASH 0         /* kill -9 at any step; what was sent may arrive all the same */
#endif
#ifndef REBALANCE
#define REBALANCE 0     /* the partition moves, with or without its worker knowing */
#endif
#ifndef EMPTY
#define EMPTY 0         /* both members time out of the group */
#endif
#ifndef BARE
#define BARE 0          /* no member any more, librdkafka sends an OffsetCommit without a generation, which an empty group takes
                         * unchecked; 1: when it moves nothing, 2: whatever it does */
#endif
#ifndef CUT
#define CUT 0           /* the connection to PostgreSQL breaks: the transaction is lost, done, or yet to run, in part or whole */
#endif
#ifndef SPLIT
#define SPLIT 0         /* a batch is executed in several transactions */
#endif
#ifndef FAIL
#define FAIL 0          /* the database fails a command alone (its rows stay locked): it is refused */
#endif
#ifndef ABORT
#define ABORT 0         /* an abortable error in the Kafka transaction */
#endif
#ifndef FENCED
#define FENCED 0        /* the producer is fenced: time-out of the transaction, InitProducerId by the partition's next owner */
#endif
#ifndef LATE
#define LATE 0          /* a copy of TxnOffsetCommit or EndTxn stays in the network while its retry is answered, or is not */
#endif
#ifndef LATE_CHECK
#define LATE_CHECK 0    /* the same with the check's OffsetCommit */
#endif
#ifndef LATE_CLAIM
#define LATE_CLAIM 0    /* a claim whose connection broke is executed late */
#endif
#ifndef RESET
#define RESET 0         /* a person sets the group's offsets back, while nobody is in the group and all is confirmed */
#endif
#ifndef FRESH
#define FRESH 0         /* the partition was never claimed, and the group has no offset of it */
#endif
#ifndef STRANGER
#define STRANGER 0      /* another consumer commits in the group */
#endif
#ifndef RESTORE
#define RESTORE 0       /* PostgreSQL is restored from an older state, once */
#endif
#ifndef MOVED
#define MOVED 0         /* the topic moves to another cluster, once, and its commands are there again */
#endif
#ifndef RETENTION
#define RETENTION 0     /* a control record ends the partition; when all is at rest, retention deletes everything, and all restart */
#endif

/* The promises: 1 I1, 2 I2 (no second result), 4 I3, 8 I4; at rest: 16 all answered once, as the database has it, 32 no
 * worker is stuck; 64 no partition halts for nothing. */
#ifndef PROMISES
#define PROMISES 127
#endif
#define promise(bit, condition) assert(!(PROMISES & bit) || (condition))

#define NOBODY 2
#define REFUSED 1       /* a result: an error; else the id of a draft */
#define NEW_ID(w) (2 + w)
#define LATE_ID(w) (4 + w) /* written by a transaction whose session was lost */
#define ASKED 9         /* the answer of a command that is sent, and not judged yet */
#define AT(w, c) ((w) * COMMANDS + (c))
#define END (COMMANDS + (RETENTION && BEHIND != 0)) /* where the partition ends, for the workers */
#define HALTS (FRESH || STRANGER || RESTORE || MOVED)
#define faults (!calm)
#if HALTS
#define all_is_done (begun && !unmarked && committed == END && order == 0 && result[0] != 0 && result[COMMANDS / 2] != 0 && result[COMMANDS - 1] != 0)
#else
#define all_is_done (committed == END)
#endif

/* The consumer group. */
byte committed;              /* its offset */
#if FRESH || MOVED
bool begun = !FRESH;         /* it has one */
#define begin_group(how) begun = how
#else
#define begun true
#define begin_group(how) skip
#endif
#if STRANGER
bool unmarked;               /* the offset is not a worker's */
#define mark_offset(how) unmarked = !how
#else
#define unmarked false
#define mark_offset(how) skip
#endif
byte assigned;               /* who has the partition; NOBODY: the group is empty */
bool member[2];              /* of the present generation, as far as librdkafka has come */
byte stray_check[2];         /* a copy of an OffsetCommit in the network, of the present generation: 1 + offset */

/* Transactions, by transactional.id. */
bool valid[2];               /* the worker's producer epoch is the coordinator's */
bool pending[2];             /* a transaction is open */
byte pending_offset[2];      /* 0: none */
byte pending_result[2 * COMMANDS];
byte stray[2];               /* a copy of a request in the network, of the present epoch: COMMIT_COPY, ABORT_COPY, an offset */
#define COMMIT_COPY 100
#define ABORT_COPY 101
#if RENEW == 0
bool was_committed[2];       /* how the last transaction ended: what a retry of EndTxn is told */
#define ended_as(x, how) was_committed[x] = how
#else
#define ended_as(x, how) skip
#endif
byte result[COMMANDS];       /* visible to read_committed subscribers */

/* PostgreSQL. */
byte draft[COMMANDS];
bool own_epoch[2];           /* the row's epoch is the one the worker claimed */
byte confirmed;
#if EXECUTED
byte executed_end = !FRESH;  /* 1 + the end of the last batch that was executed; 0: there is no row */
byte ends[2];                /* what the fence of the worker's batch writes there; 0: nothing */
byte lost_end[2];
#if LAST_PART
#define set_executed(to) executed_end = to
#define between false
#else
bool partial[2], between;    /* executed_offset is ahead of a batch whose last part is not committed */
#define set_executed(to) executed_end = to; between = false
#endif
#define set_end(x, to) ends[x] = to
#define lose_end(x, to) lost_end[x] = to
#define end_of(x) ends[x]
#define lost_end_of(x) lost_end[x]
#else
#define executed_end 0
#define set_executed(to) skip
#define set_end(x, to) skip
#define lose_end(x, to) skip
#define end_of(x) 0
#define lost_end_of(x) 0
#endif
bool executing[2];           /* a transaction that has passed the fence and holds its lock */
byte written[2 * COMMANDS];  /* by it */
byte confirms[2];            /* what the fence of the worker's batch writes */
mtype = { NONE, SENT, FENCE_PASSED, JUDGED, COMMITTED, ROLLED_BACK, GONE, UNFINISHED, UNSEEN };
mtype ahead[2] = NONE;       /* the batch ahead; GONE: its fence did not pass, or nobody knows */
byte answer[2 * COMMANDS];   /* its answers */
mtype lost[2] = NONE;        /* a lost session's transaction: its COMMIT is yet to come, or all of it, and the fence lets it */
byte lost_start[2];
byte lost_written[2 * COMMANDS]; /* ids; UNSEEN: which commands it holds */
#if OWN_CLAIM == 0
byte snapshot[2 * COMMANDS]; /* what the claim saw; UNUSED: over */
#define UNUSED 9
#endif

#if HALTS
byte order;                  /* to resume: 1 + offset */
byte again;                  /* 1 + the first command that a person had answered again */
bool harmed;                 /* there is a reason to halt */
#define repeated(c) (again != 0 && (c) + 1 >= again)
#else
#define order 0
#define repeated(c) false
#endif
#if RESTORE
mtype = { SAVED, RESTORED };
mtype backup = NONE;
#define is_restored (backup == RESTORED)
byte old_draft[COMMANDS];
byte old_confirmed, old_executed;
#endif
#if RESTORE == 0
#define is_restored false
#endif
#if MOVED
bool moved;                  /* the rows are another cluster's */
#endif

bool calm;                   /* no more faults */
byte done;                   /* workers that have nothing left to do */
byte low;                    /* what lies below is deleted */
byte i, j;                   /* within one step */

/* ---- the consumer group ---- */

inline commit_offset(to) {
	committed = to; begin_group(true); mark_offset(true);
	for (j : 0 .. COMMANDS - 1) { promise(8, j >= committed || result[j] != 0 || is_restored) }
}

/* A new generation: nothing of the one before is valid any more. */
inline rebalance(who) {
	assigned = who;
	member[0] = false; member[1] = false;
	stray_check[0] = 0; stray_check[1] = 0;
	if :: stray[0] < COMMIT_COPY -> stray[0] = 0 :: else fi;
	if :: stray[1] < COMMIT_COPY -> stray[1] = 0 :: else fi
}

inline join_anew(x) {
	if :: rebalance(x) :: rebalance(1 - x) fi
}

/* ---- Kafka transactions ---- */

inline forget_transaction(x) {
	pending[x] = false; pending_offset[x] = 0;
	for (i : 0 .. COMMANDS - 1) { pending_result[AT(x, i)] = 0 }
}

inline commit_transaction(x) {
	for (i : 0 .. COMMANDS - 1) {
		if
		:: pending_result[AT(x, i)] != 0 ->
			promise(2, result[i] == 0 || repeated(i));
			promise(4, result[i] == 0 || result[i] == pending_result[AT(x, i)] || (repeated(i) && result[i] == REFUSED));
			if
			:: is_restored && pending_result[AT(x, i)] > REFUSED && draft[i] == 0 -> result[i] = 0
			:: else ->
				promise(4, pending_result[AT(x, i)] == (draft[i] -> draft[i] : REFUSED));
				result[i] = pending_result[AT(x, i)]
			fi
		:: else
		fi
	}
	if :: pending_offset[x] != 0 -> commit_offset(pending_offset[x]) :: else fi;
	forget_transaction(x);
	ended_as(x, true)
}

inline abort_transaction(x) {
	forget_transaction(x);
	ended_as(x, false)
}

/* A new epoch ends what is pending; what still carries the old one does nothing any more. */
inline bump_producer(x, by_itself) {
	if :: pending[x] -> abort_transaction(x) :: else fi;
	stray[x] = 0;
	valid[x] = by_itself
}

/* ---- PostgreSQL ---- */

#define owns(x) (!FENCE || own_epoch[x])
#define unlocked(x) (!LOCK || !FENCE || (!executing[1 - x] && lost[0] != UNFINISHED && lost[1] != UNFINISHED))
#define untwinned(x, c) (!UNIQUE || (written[AT(1 - x, c)] == 0 && (lost[0] != UNFINISHED || lost_written[AT(0, c)] == 0) && \
	(lost[1] != UNFINISHED || lost_written[AT(1, c)] == 0)))

inline insert(command, id) {
	if
	:: id != 0 && (!UNIQUE || draft[command] == 0) ->
		promise(1, draft[command] == 0);
		promise(4, result[command] == 0 || (repeated(command) && result[command] == REFUSED));
		draft[command] = id
	:: else
	fi
}

inline confirm(below, upto) {
	if :: CONFIRM && FENCE && LOCK -> confirmed = below :: else fi;
	if :: upto != 0 -> set_executed(upto) :: else fi
}

inline roll_back(x) {
	executing[x] = false; set_end(x, 0);
	for (i : 0 .. COMMANDS - 1) { written[AT(x, i)] = 0 }
}

inline commit_database(x, from) {
	for (i : 0 .. COMMANDS - 1) { insert(i, written[AT(x, i)]) }
	confirm(from, end_of(x));
#if LAST_PART == 0
	between = partial[x]; partial[x] = false;
#endif
	roll_back(x)
}

inline forget_lost(x) {
	lost[x] = NONE; lost_start[x] = 0; lose_end(x, 0);
	for (i : 0 .. COMMANDS - 1) { lost_written[AT(x, i)] = 0 }
}

/* What carries the epoch before does not pass the fence any more. */
inline next_epoch() {
	own_epoch[0] = false; own_epoch[1] = false;
	if :: FENCE && lost[0] == UNSEEN -> forget_lost(0) :: else fi;
	if :: FENCE && lost[1] == UNSEEN -> forget_lost(1) :: else fi
}

inline take_epoch(x) {
	if
	:: NEW_EPOCH || !own_epoch[x] -> next_epoch(); own_epoch[x] = true
	:: else
	fi
}

/* The session is gone, its COMMIT is not. */
inline lose_unfinished(x, from) {
	lost[x] = UNFINISHED; lost_start[x] = from; lose_end(x, end_of(x));
	for (i : 0 .. COMMANDS - 1) { lost_written[AT(x, i)] = (written[AT(x, i)] -> LATE_ID(x) : 0) }
	roll_back(x)
}

/* All of the pipeline is still in the network. */
inline lose_unseen(x, from, first, behind) {
	if
	:: owns(x) ->
		lost[x] = UNSEEN; lost_start[x] = from; lose_end(x, end_of(x));
		for (i : first .. behind - 1) { lost_written[AT(x, i)] = LATE_ID(x) }
	:: else
	fi
}

/* ---- a batch ahead ---- */

#define under_way(x) (ahead[x] == SENT || ahead[x] == FENCE_PASSED || ahead[x] == JUDGED)

inline end_ahead(x, how) {
	ahead[x] = how; set_end(x, 0);
	for (i : 0 .. COMMANDS - 1) { answer[AT(x, i)] = 0 }
}

/* Nobody hears of it any more; all of it may be still to come, or its COMMIT, or nothing. */
inline lose_ahead(x) {
	if
	:: ahead[x] == SENT && lost[x] == NONE && owns(x) ->
		lost[x] = UNSEEN; lost_start[x] = confirms[x]; lose_end(x, end_of(x));
		for (i : 0 .. COMMANDS - 1) { lost_written[AT(x, i)] = (answer[AT(x, i)] == ASKED -> LATE_ID(x) : 0) }
	:: ahead[x] == JUDGED && executing[x] && lost[x] == NONE -> lose_unfinished(x, confirms[x])
	:: else -> roll_back(x)
	fi;
	end_ahead(x, GONE)
}

/* ---- a worker ---- */

inline forget_batch() {
	for (i : 0 .. COMMANDS - 1) { verdict[i] = 0 }
	n = 0; m = 0; c = 0; end = 0; confirms[w] = 0;
	end_ahead(w, NONE)
}

/* The batch is executed, and is the one to be published. */
inline executed() {
	n = m; m = 0; c = 0; end = 0; confirms[w] = 0
}

inline send_ahead() {
	ahead[w] = SENT; c = 0; set_end(w, 1 + start + n + m);
	for (i : start + n .. start + n + m - 1) { answer[AT(w, i)] = ASKED }
}

inline published() {
	start = start + n; n = 0;
	if :: spent && RENEW -> bump_producer(w, true) :: else fi;
	spent = false
}

inline forget_snapshot(x) {
#if OWN_CLAIM == 0
	for (i : 0 .. COMMANDS - 1) { snapshot[AT(x, i)] = UNUSED }
#endif
	skip
}

inline fetch(commands) {
	m = commands; c = start + n;
	confirms[w] = (AHEAD_START -> start : start + n)
}

inline leave_end(x) {
#if LAST_PART
	set_end(x, 0)
#else
	partial[x] = true
#endif
}

inline choose_end() {
	end = start + m;
	set_end(w, 1 + end);
	if
	:: SPLIT && faults && c + 1 < end -> end = c + 1; leave_end(w)
	:: skip
	fi
}

inline judge(x, command, found, its_answer) {
	if
	:: found == 0 -> its_answer = REFUSED
	:: found == 0 -> its_answer = NEW_ID(x); written[AT(x, command)] = NEW_ID(x)
	:: found != 0 -> its_answer = found /* the draft is there already: it is the answer */
	fi
}

inline judge_part(x) {
	do
	:: c < end ->
		if
#if OWN_CLAIM == 0
		:: snapshot[AT(x, c)] != UNUSED -> judge(x, c, snapshot[AT(x, c)], verdict[c])
		:: snapshot[AT(x, c)] == UNUSED -> judge(x, c, draft[c], verdict[c])
#else
		:: judge(x, c, draft[c], verdict[c])
#endif
		:: FAIL && faults && !(LOOK && draft[c] != 0) -> verdict[c] = REFUSED /* failed alone; its part then held only the fence */
		fi;
		c++
	:: else -> break
	od
}

/* What is executed could not be published, or nobody knows. */
inline unpublished() {
	if
	:: !AHEAD_ORDER && ahead[w] != NONE -> for (i : 0 .. COMMANDS - 1) { verdict[i] = 0 } goto batch_end
	:: !AHEAD_CLAIM -> lose_ahead(w); roll_back(w); forget_batch(); start = 0; goto positions
	:: else -> goto start_over
	fi
}

#if EXECUTED
#define see_end(to) seen_end = to
#else
#define seen_end 0
#define see_end(to) skip
#endif

/* start.c partition_start */
#define halting(x) ((EXECUTED == 1 && begun && (1 + committed > seen_end || (MARK && unmarked && committed > seen))) || \
	is_of_another_cluster || committed < low && seen < low)

#if MOVED
#define is_of_another_cluster (SAME_CLUSTER && moved && seen_end == 0)
#else
#define is_of_another_cluster false
#endif
#if HALTS
#define is_harmed harmed
#define obey() if :: order != 0 -> start = order - 1 :: else fi
#else
#define is_harmed false
#define obey() skip
#endif

proctype Worker(byte w) {
	byte start;              /* of what is not published */
	byte n;                  /* commands that are executed and to be published */
	byte m;                  /* behind them, commands that are to be executed: if n > 0, the batch ahead */
	byte c, end;             /* the first not executed yet; behind the last of this transaction */
	byte seen;               /* confirmed_offset, as of the claim */
#if EXECUTED
	byte seen_end;           /* and executed_offset */
#endif
	bool replaced;           /* a rebalance was served since the assignment was taken over */
	bool spent;              /* a transactional request was sent twice */
	byte verdict[COMMANDS];
#if RETENTION
	bool once_more;
#endif

	goto restart;

crash:	atomic { lose_ahead(w); roll_back(w); goto restart };

restart:
	atomic {
		forget_batch(); forget_snapshot(w);
		start = 0; seen = 0; see_end(0); replaced = false; spent = false;
		bump_producer(w, true);
		join_anew(w)
	};

join:	if
	:: atomic { assigned == w -> member[w] = true; replaced = false }
	:: atomic { assigned == NOBODY -> rebalance(w); member[w] = true; replaced = false }
	:: atomic { calm && all_is_done -> goto finished }
	fi;

claim_before:
#if CHECK == 2
	if
	:: atomic { !member[w] -> goto revoke }
	:: member[w]
	fi;
#endif
#if OWN_CLAIM == 0
	atomic { for (i : 0 .. COMMANDS - 1) { snapshot[AT(w, i)] = draft[i] } };
#endif
claim_waits:
	if
	:: atomic { unlocked(w) -> take_epoch(w); seen = confirmed; see_end(executed_end) }
	:: atomic { !member[w] && !replaced && assigned != NOBODY -> /* revoked, and assigned other partitions */
		member[w] = true; replaced = true; goto claim_waits }
	:: atomic { CRASH && faults -> goto crash }
	fi;

claim_after:
positions:
	if
	:: atomic { !STABLE || (pending_offset[0] == 0 && pending_offset[1] == 0) ->
		if
		:: order == 0 && halting(w) -> promise(64, !own_epoch[w] || is_harmed); seen = 0; see_end(0); goto halted
		:: else
		fi;
		start = (CONFIRM && seen > committed -> seen : committed); seen = 0; see_end(0);
		obey() }
	:: atomic { FENCED && faults && valid[1 - w] -> bump_producer(1 - w, false); goto positions } /* end_predecessors */
	:: atomic { CRASH && faults -> goto crash }
	fi;

#if HALTS
	if
	:: atomic { RECORD != 1 || 1 + start <= executed_end }
	:: atomic { RECORD == 1 && 1 + start > executed_end && unlocked(w) && own_epoch[w] -> set_executed(1 + start) }
	:: atomic { RECORD == 1 && !own_epoch[w] -> goto start_over }
	:: atomic { CRASH && faults -> goto crash }
	fi;
#endif

check_before:
#if CHECK == 1
	if
	:: atomic { SAME_ASSIGNMENT && replaced -> goto revoke }
	:: atomic { !(SAME_ASSIGNMENT && replaced) && member[w] -> commit_offset(start) }
	:: atomic { !(SAME_ASSIGNMENT && replaced) && member[w] && LATE_CHECK && faults && stray_check[w] == 0 ->
		stray_check[w] = 1 + start;
		if :: commit_offset(start) :: skip fi; /* the retry is answered, or nothing is */
		if :: REJOIN -> goto close :: !REJOIN fi }
	:: atomic { !member[w] -> goto revoke } /* known to be none, or refused for it */
	:: atomic { !member[w] && assigned == NOBODY && faults && (BARE == 2 || (BARE == 1 && start == committed)) ->
		commit_offset(start);
		if :: MEMBERSHIP -> goto revoke :: !MEMBERSHIP fi }
	:: atomic { CRASH && faults -> goto crash }
	fi;
#endif

check_after:
	if
	:: atomic { replaced -> goto revoke }
#if HALTS
	:: atomic { !replaced && unlocked(w) && (order != 0 || RECORD == 2) ->
		if
		:: own_epoch[w] && order != 0 -> confirm(start, 1 + start); order = 0; goto poll
		:: own_epoch[w] && order == 0 -> set_executed(1 + start); goto poll
		:: !own_epoch[w] -> goto start_over
		fi }
	:: atomic { !replaced && order == 0 && RECORD != 2 -> goto poll }
	:: atomic { CRASH && faults -> goto crash }
#else
	:: atomic { !replaced -> goto poll }
#endif
	fi;

poll:	if
	:: atomic { start + n < COMMANDS -> fetch(1) }
	:: atomic { start + n + 1 < COMMANDS -> fetch(2) }
	:: atomic { n > 0 -> goto ktx_begin } /* nothing more is there */
	:: atomic { !member[w] -> goto revoke }
	:: atomic { !AHEAD_DROP && n > 0 && !member[w] && assigned != NOBODY -> member[w] = true; goto ktx_begin }
	:: atomic { n == 0 && CONFIRM && FENCE && confirmed != start && unlocked(w) -> /* idle, takeover_maintain: confirm */
		if
		:: own_epoch[w] -> confirm(start, 1 + start); goto poll
		:: !own_epoch[w] -> goto start_over
		fi }
	:: atomic { n == 0 && faults && LATE_CHECK && CHECK == 1 -> goto check_before } /* idle: recommit */
#if HALTS
	:: atomic { n == 0 && order != 0 -> goto start_over } /* find_resume_orders */
#endif
#if RETENTION
	:: atomic { n == 0 && BEHIND && start == COMMANDS -> start = END; goto poll } /* behind the control record */
	:: atomic { n == 0 && start == END && committed != END && (BEHIND == 2 || confirmed == END) -> goto check_before }
#endif
	:: atomic { n == 0 && calm && all_is_done -> goto finished }
	:: atomic { CRASH && faults -> goto crash }
	fi;

decode:
begin:	/* one pipeline, the COMMIT included */
	if
	:: atomic { n > 0 -> send_ahead(); goto ktx_begin }
	:: atomic { n == 0 && unlocked(w) && owns(w) -> executing[w] = true; choose_end() }
	:: atomic { n == 0 && unlocked(w) && !owns(w) -> goto start_over }
	:: atomic { n == 0 && CUT && faults && lost[w] == NONE -> choose_end(); lose_unseen(w, confirms[w], c, end);
		if :: goto doubt :: CRASH -> goto crash fi }
	:: atomic { CRASH && faults -> goto crash }
	fi;

fence_after:
	if
	:: atomic { executing[w] && untwinned(w, start) && untwinned(w, start + m - 1) -> judge_part(w);
		if :: DATABASE_FIRST :: !DATABASE_FIRST -> n = m; goto ktx_begin fi }
	:: atomic { !executing[w] -> goto start_over }
	fi;

statement_after:
commit_before:
commit_sent:
	if
	:: atomic { executing[w] -> commit_database(w, confirms[w]);
		if
		:: c < start + m -> goto begin
		:: c == start + m -> executed(); if :: DATABASE_FIRST :: !DATABASE_FIRST -> goto batch_end fi
		fi }
	:: atomic { !executing[w] -> goto start_over }
	:: atomic { CUT && faults && executing[w] ->
		if
		:: commit_database(w, confirms[w]); goto doubt
		:: lost[w] == NONE -> lose_unfinished(w, confirms[w]); goto doubt
		:: CRASH && lost[w] == NONE -> lose_unfinished(w, confirms[w]); goto crash
		fi }
	:: atomic { CRASH && faults -> goto crash }
	fi;

commit_after:
	atomic {
		forget_snapshot(w);
		if /* a revoke that was served while PostgreSQL was waited for, and what came behind it */
		:: METADATA == 1 && !member[w] -> goto revoke
		:: METADATA == 2 && !member[w] && assigned != NOBODY -> member[w] = true
		:: skip
		fi;
		if :: OVERLAP -> goto poll :: !OVERLAP fi
	};

ktx_begin:
	if
	:: atomic { valid[w] -> pending[w] = true;
		for (i : 0 .. COMMANDS - 1) { pending_result[AT(w, i)] = verdict[i]; verdict[i] = 0 } }
	:: atomic { !valid[w] -> goto rebuild }
	:: atomic { ahead[w] != NONE && METADATA == 1 && !member[w] -> goto start_over } /* a revoke that was served while sending */
	:: atomic { CRASH && faults -> goto crash }
	fi;

produce:
offsets_before:
	if
	:: atomic { valid[w] && (!METADATA || member[w]) -> pending[w] = true; pending_offset[w] = start + n;
		if
		:: skip
		:: LATE && faults && stray[w] == 0 -> stray[w] = start + n; spent = true
		fi }
	:: atomic { valid[w] && METADATA && !member[w] -> goto give_up }
	:: atomic { !valid[w] -> goto rebuild }
	:: atomic { ABORT && faults -> goto give_up }
	:: atomic { CRASH && faults -> goto crash }
	fi;

offsets_after:
endtxn_before:
endtxn_sent:
	if
	:: atomic { valid[w] && pending[w] -> commit_transaction(w) }
	:: atomic { valid[w] && pending[w] && LATE && faults -> commit_transaction(w); goto rebuild } /* done, but not known */
	:: atomic { valid[w] && pending[w] && LATE && faults && stray[w] == 0 -> stray[w] = COMMIT_COPY;
		if
		:: commit_transaction(w); spent = true /* a retry was answered */
		:: goto rebuild
		:: CRASH -> goto crash
		fi }
	:: atomic { !valid[w] -> goto rebuild }
#if RENEW == 0
	:: atomic { valid[w] && !pending[w] && was_committed[w] -> skip }
	:: atomic { valid[w] && !pending[w] && !was_committed[w] -> goto rebuild }
#endif
	:: atomic { CRASH && faults -> goto crash }
	fi;

endtxn_after:
#if DATABASE_FIRST == 0
	goto commit_before;
#endif

batch_end:
	if
	:: atomic { m == 0 -> published(); goto poll }
	:: atomic { ahead[w] == COMMITTED -> published(); executed();
		for (i : 0 .. COMMANDS - 1) { verdict[i] = answer[AT(w, i)] }
		end_ahead(w, NONE); goto commit_after }
	:: atomic { ahead[w] == ROLLED_BACK -> published(); end_ahead(w, NONE); c = start; goto begin }
	:: atomic { ahead[w] == GONE -> published(); end_ahead(w, NONE); goto doubt }
	:: atomic { CRASH && faults -> goto crash }
	fi;

give_up:
	if
	:: atomic { valid[w] && pending[w] -> abort_transaction(w) }
	:: atomic { valid[w] && pending[w] && LATE && faults && stray[w] == 0 ->
		abort_transaction(w); stray[w] = ABORT_COPY; spent = true }
	:: atomic { valid[w] && !pending[w] }
	:: atomic { !valid[w] -> goto rebuild }
	:: atomic { CRASH && faults -> goto crash }
	fi;
	if
	:: atomic { spent && RENEW -> goto rebuild }
	:: atomic { !(spent && RENEW) -> spent = false; unpublished() }
	fi;

rebuild: /* a new producer */
	atomic { if :: RESOLVE -> bump_producer(w, true) :: !RESOLVE fi; spent = false; unpublished() };

doubt:	/* the COMMIT's answer was lost */
	atomic {
		roll_back(w);
		if
		:: RECLAIM -> goto start_over
		:: !RECLAIM -> for (i : 0 .. COMMANDS - 1) { verdict[i] = 0 } c = start; end = 0; goto begin
		fi
	};

close:	atomic { start = 0; join_anew(w); goto join }; /* a new consumer */

revoke:	atomic { roll_back(w); forget_batch(); forget_snapshot(w);
		start = 0; seen = 0; see_end(0); replaced = false; goto join };

halted:	if
	:: atomic { replaced || !member[w] -> goto revoke }
	:: atomic { !replaced && member[w] && order != 0 -> goto claim_before }
	:: atomic { calm && all_is_done -> goto finished }
	:: atomic { CRASH && faults -> goto crash }
	fi;

start_over: /* drops what is in hand */
	if
	:: atomic { !under_way(w) -> roll_back(w); forget_batch(); forget_snapshot(w);
		start = 0;
		if
		:: goto claim_before /* also with an assignment that it does not know to be over */
		:: !member[w] -> goto join
		fi }
	:: atomic { under_way(w) && CRASH && faults -> goto crash }
	fi;

finished:
	atomic { forget_batch(); start = 0; done++ };
#if RETENTION
	if
	:: atomic { low != 0 && !once_more -> once_more = true; goto restart }
	fi
#endif
}

/* PostgreSQL's part in a batch ahead, at any time. It need not have got all of it. */
proctype Session(byte x) {
end:	do
	:: atomic { ahead[x] == SENT && unlocked(x) && owns(x) -> executing[x] = true; ahead[x] = FENCE_PASSED }
	:: atomic { ahead[x] == SENT && unlocked(x) && !owns(x) -> end_ahead(x, GONE) }
	:: atomic { ahead[x] == FENCE_PASSED && executing[x] ->
		for (i : 0 .. COMMANDS - 1) {
			if :: answer[AT(x, i)] == ASKED -> judge(x, i, draft[i], answer[AT(x, i)]) :: else fi
		}
		ahead[x] = JUDGED }
	:: atomic { ahead[x] == JUDGED && executing[x] -> commit_database(x, confirms[x]); ahead[x] = COMMITTED }
	:: atomic { (ahead[x] == FENCE_PASSED || ahead[x] == JUDGED) && !executing[x] -> end_ahead(x, GONE) }
	:: atomic { (SPLIT || FAIL) && faults && ahead[x] == JUDGED && executing[x] -> roll_back(x); end_ahead(x, ROLLED_BACK) }
	:: atomic { CUT && faults && ahead[x] == JUDGED && executing[x] -> commit_database(x, confirms[x]); end_ahead(x, GONE) }
	:: atomic { CUT && faults && lost[x] == NONE && (ahead[x] == SENT || (ahead[x] == JUDGED && executing[x])) -> lose_ahead(x) }
	od
}

/* What arrives late, and what the servers do by themselves. */
inline deliver(x) {
	if
	:: stray[x] == COMMIT_COPY && pending[x] -> commit_transaction(x)
	:: stray[x] == ABORT_COPY && pending[x] -> abort_transaction(x)
	:: stray[x] < COMMIT_COPY && pending[x] -> pending_offset[x] = stray[x]
	:: !pending[x]
	fi;
	stray[x] = 0
}

inline finish_lost(x) {
	if
	:: for (i : 0 .. COMMANDS - 1) { insert(i, lost_written[AT(x, i)]) }
		confirm(lost_start[x], lost_end_of(x))
	:: skip
	fi;
	forget_lost(x)
}

/* Fence, statement and COMMIT, judged by what is there now. */
inline run_lost(x) {
	if
	:: for (i : 0 .. COMMANDS - 1) {
			if
			:: draft[i] == 0 -> insert(i, lost_written[AT(x, i)])
			:: skip
			fi
		}
		confirm(lost_start[x], lost_end_of(x))
	:: skip
	fi;
	forget_lost(x)
}

#define anyones_lock (LOCK && FENCE && (executing[0] || executing[1] || lost[0] == UNFINISHED || lost[1] == UNFINISHED))

active proctype Servers() {
end:	do
	:: atomic { stray[0] != 0 -> deliver(0) }
	:: atomic { stray[1] != 0 -> deliver(1) }
	:: atomic { stray_check[0] != 0 -> commit_offset(stray_check[0] - 1); stray_check[0] = 0 }
	:: atomic { stray_check[1] != 0 -> commit_offset(stray_check[1] - 1); stray_check[1] = 0 }
	:: atomic { lost[0] == UNFINISHED -> finish_lost(0) }
	:: atomic { lost[1] == UNFINISHED -> finish_lost(1) }
	:: atomic { lost[0] == UNSEEN && !anyones_lock -> run_lost(0) }
	:: atomic { lost[1] == UNSEEN && !anyones_lock -> run_lost(1) }
	:: atomic { FENCED && faults && valid[0] -> bump_producer(0, false) }
	:: atomic { FENCED && faults && valid[1] -> bump_producer(1, false) }
	:: atomic { CUT && faults && executing[0] -> roll_back(0) }
	:: atomic { CUT && faults && executing[1] -> roll_back(1) }
	:: atomic { LATE_CLAIM && faults && !anyones_lock -> next_epoch() }
	od
}

#if STRANGER
inline commit_as_stranger() {
	if :: committed = COMMANDS :: committed++ fi;
	mark_offset(false); harmed = true;
	rebalance(NOBODY)
}
#endif

#if RESTORE
inline save() {
	backup = SAVED; old_confirmed = confirmed; old_executed = executed_end;
	for (i : 0 .. COMMANDS - 1) { old_draft[i] = draft[i] }
}

/* Every session is gone. A command whose draft is lost with them has no answer any more. */
inline restore() {
	backup = RESTORED; harmed = true;
	roll_back(0); roll_back(1); forget_lost(0); forget_lost(1);
	if :: under_way(0) -> end_ahead(0, GONE) :: else fi;
	if :: under_way(1) -> end_ahead(1, GONE) :: else fi;
	own_epoch[0] = false; own_epoch[1] = false;
	confirmed = old_confirmed; set_executed(old_executed); old_confirmed = 0; old_executed = 0;
	for (i : 0 .. COMMANDS - 1) {
		draft[i] = old_draft[i]; old_draft[i] = 0;
		if :: result[i] > REFUSED && draft[i] == 0 -> result[i] = 0 :: else fi
	}
}
#endif

#if MOVED
#define is_quiet (!pending[0] && !pending[1] && !executing[0] && !executing[1] && !under_way(0) && !under_way(1) && \
	lost[0] == NONE && lost[1] == NONE && committed == confirmed)

inline move() {
	moved = true; harmed = true;
	begin_group(false); committed = 0;
	confirmed = 0; set_executed(0); own_epoch[0] = false; own_epoch[1] = false;
	rebalance(NOBODY)
}
#endif

#if HALTS
#define halts(x) (harmed && assigned == x && member[x] && Worker[3 + x]@halted)

/* A topic that was moved: from the first command that has no answer. */
inline give_order() {
	order = 1 + (GO_BACK || executed_end == 0 -> confirmed : executed_end - 1);
#if MOVED
	order = 1;
	for (i : 0 .. COMMANDS - 1) { if :: order == 1 + i && result[i] != 0 -> order++ :: else fi }
#endif
	again = (again == 0 || order < again -> order : again);
}
#endif

active proctype Surroundings() {
end:	do
	:: atomic { REBALANCE && faults -> if :: rebalance(0) :: rebalance(1) fi }
	:: atomic { EMPTY && faults && assigned != NOBODY -> rebalance(NOBODY) }
	:: atomic { RESET && faults && committed > 0 && (confirmed == committed || !CONFIRM) ->
		committed = 0; rebalance(NOBODY) }
#if STRANGER
	:: atomic { faults && begun && committed < COMMANDS -> commit_as_stranger() }
#endif
#if RESTORE
	:: atomic { faults && backup == NONE && (between || executed_end == 1 + committed) -> save() }
	:: atomic { faults && backup == SAVED -> restore() }
#endif
#if MOVED
	:: atomic { faults && !moved && begun && is_quiet -> move() }
#endif
#if HALTS
	:: atomic { order == 0 && (halts(0) || halts(1)) && !all_is_done -> give_order() }
#endif
	:: atomic { faults -> calm = true }
	od
}

init {
	atomic {
		forget_snapshot(0); forget_snapshot(1);
		run Worker(0); run Worker(1);
		if :: OVERLAP -> run Session(0); run Session(1) :: !OVERLAP fi
	};
	timeout -> /* nothing can move any more */
#if RETENTION
	atomic { promise(32, done == 2); done = 0; low = COMMANDS + 1 };
	timeout ->
#endif
	atomic {
		promise(32, done == 2);
		promise(16, committed == END);
		for (i : 0 .. COMMANDS - 1) { promise(16, result[i] != 0 && result[i] == (draft[i] -> draft[i] : REFUSED)) }
	}
}

#ifdef RESTS
ltl rests { [] (calm -> <> (done == 2)) }
#endif
