/*
 * fault-proxy: stands between the workers and their servers and breaks connections at exact messages.
 *
 *   fault-proxy [-p] CONTROL_SOCKET kafka|pg:LISTEN_PORT:TARGET...
 *
 * Longer than 600 lines: both protocols, the rules and the forwarding work on one table of connections, and the program is
 * compiled from this file alone, without anything of the product.
 *
 * Listens on 127.0.0.1; TARGET is host:port or the path of a Unix socket. Ends on SIGTERM and SIGINT; with -p also when
 * the thread that started it ends. The control socket appears last, when all ports are open.
 *
 * A connection's WHO is Kafka's client.id or PostgreSQL's application_name, known from its first message on. Controllers
 * write lines:
 *
 *   add ID kafka|pg WHO EVENT NTH ACTION MS     arms a rule: "ok ID"; WHO is a part of the connection's, or * for any
 *   del ID                                      disarms it: "ok ID"
 *   stat                                        "stat kafka connections=N open=N forth=BYTES back=BYTES pg ..."
 *
 * and read "fired ID WHO" when a rule fires, "done ID" when what it did is over, "error ID REASON" for what is refused.
 * A rule fires once, on the NTH matching event; it ends unfired with the controller that added it. While one rule acts on
 * a connection, its messages are no events to the others.
 *
 * EVENT: now (on every matching connection, "done" comes when it is over on all of them), api:N (a Kafka request of that
 * ApiKey), begin, commit (a PostgreSQL Query or Parse with that statement; one that was prepared earlier is not seen when
 * it is only bound). ACTION, where what stood before the triggering message is on its way already:
 *
 *   mute-back     the server's bytes are swallowed; after MS both sides are reset
 *   mute-forth    the client's bytes are swallowed, from this message on; after MS both sides are reset
 *   half-open     both; after MS both sides are reset
 *   reset         both sides are reset, the message is not delivered
 *   answer-lost   the message is delivered, the client reset; the server's side is closed once it was silent for MS
 *   detach        the client is reset; the message and what came behind it are delivered after MS, the answers swallowed
 *   hold          the message and what comes behind it are delivered after MS; as detach, if the client has left by then
 *   slow          1 kB/s each way for MS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (64 * 1024)
#define HELD_BYTES_MAX (16 * 1024 * 1024)
#define HEAD_BYTES 128        /* of a message: enough for its kind, a client.id, the first words of a statement */
#define STARTUP_BYTES_MAX 10000 /* PostgreSQL's MAX_STARTUP_PACKET_LENGTH */
#define WHO_BYTES 128
#define LINE_BYTES 512
#define ANSWERS_BYTES_MAX (1024 * 1024) /* a controller that does not read is dropped */
#define SETTLE_MS 20          /* a client that was silent for so long has written all that belongs together */
#define SETTLE_MAX_MS 1000
#define AFTERWARDS_MS 2000    /* so long the answers to what was delivered late are awaited */
#define SLOW_BYTES 100        /* at a time, and as many ms between two times */
#define SPECS_MAX 16
#define NEVER INT64_MAX

enum kind { KAFKA, PG, KINDS };
enum event { EVENT_NONE, EVENT_NOW, EVENT_API, EVENT_BEGIN, EVENT_COMMIT };
enum action { MUTE_BACK, MUTE_FORTH, HALF_OPEN, RESET, ANSWER_LOST, DETACH, HOLD, SLOW, ACTIONS };

static const char *const kind_names[KINDS] = { "kafka", "pg" };
static const char *const action_names[ACTIONS] = { "mute-back", "mute-forth", "half-open", "reset",
						   "answer-lost", "detach", "hold", "slow" };

struct controller {
	struct controller *next;
	int fd, slot;
	bool gone;
	char line[LINE_BYTES];
	size_t line_size;
	char *answers; /* not yet written */
	size_t answers_size;
};

struct rule {
	struct rule *next;
	struct controller *controller; /* NULL: it has left */
	char id[64], who[WHO_BYTES];
	enum kind kind;
	enum event event;
	int api;
	long left; /* matching events until it fires */
	enum action action;
	int64_t ms;
	int acting; /* on so many links */
	bool fired, over;
};

/* One way through the proxy. What was read and not yet written is data[start..end), of which ready bytes may be written. */
struct stream {
	char *data;
	size_t capacity, start, end, ready;
	bool held;       /* nothing becomes ready; the buffer grows */
	bool muted;      /* what is read is thrown away */
	bool shut;       /* its end was passed on */
	int64_t slow_ms; /* when the next bytes may be written, while the link is slow */
};

struct side {
	int fd;       /* -1: closed by us */
	int slot;     /* in the poll set; -1: not in it */
	bool ended;   /* nothing more can be read */
	bool broken;  /* and it ended with an error */
	bool deaf;    /* nothing more can be written */
	bool blocked; /* nothing can be written now */
};

/* A client's connection, with the one made to the server for it. */
struct link {
	struct link *next;
	enum kind kind;
	char who[WHO_BYTES];
	struct side client, server;
	struct stream forth, back;
	bool opaque;        /* not a protocol known here (any more): everything is let through */
	bool started;       /* PostgreSQL: the startup message was seen */
	uint64_t left;      /* bytes of the message at hand that have not been read */
	struct rule *rule;  /* acts on it */
	int64_t fired_ms, due_ms;
	int64_t heard_ms;   /* when the client's last bytes came */
	bool collecting;    /* the client is to be reset once it has written all */
	bool afterwards;    /* what was held is delivered: the last wait */
	bool slow, over;
};

struct listener {
	enum kind kind;
	int fd, slot;
	struct sockaddr_storage target;
	socklen_t target_size;
};

struct counters {
	uint64_t connections, open, forth, back;
};

struct proxy {
	int64_t now_ms;
	int control_fd, control_slot;
	struct listener listeners[SPECS_MAX];
	size_t listener_count;
	struct controller *controllers;
	struct rule *rules; /* in the order they were armed */
	struct link *links;
	struct counters counters[KINDS];
	struct pollfd *slots;
	size_t slot_count, slot_capacity;
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "fault-proxy: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static void *must(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

static int64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- controllers: what they are told ---- */

__attribute__((format(printf, 2, 3))) static void tell(struct controller *controller, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;
	size_t size;

	if (controller == NULL || controller->gone)
		return;
	va_start(args, format);
	size = (size_t)vsnprintf(line, sizeof line, format, args);
	va_end(args);
	size = least(size, sizeof line - 1);
	if (controller->answers_size + size > ANSWERS_BYTES_MAX) {
		controller->gone = true;
		return;
	}
	controller->answers = must(realloc(controller->answers, controller->answers_size + size));
	memcpy(controller->answers + controller->answers_size, line, size);
	controller->answers_size += size;
}

/* ---- links: their end ---- */

static void finish(struct rule *rule)
{
	if (!rule->fired || rule->acting > 0)
		return;
	tell(rule->controller, "done %s\n", rule->id);
	rule->over = true;
}

/* The rule does no more to this link. */
static void release(struct link *link)
{
	struct rule *rule = link->rule;

	link->rule = NULL;
	if (rule) {
		rule->acting--;
		finish(rule);
	}
}

static void close_side(struct side *side, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (side->fd < 0)
		return;
	if (reset)
		(void)setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger); /* no Unix socket knows it */
	close(side->fd);
	side->fd = -1;
	side->ended = true;
}

static void end_link(struct link *link, bool reset)
{
	close_side(&link->client, reset);
	close_side(&link->server, reset);
	link->over = true;
	release(link);
}

/* ---- streams ---- */

static size_t stream_pending(const struct stream *stream)
{
	return stream->end - stream->start;
}

static bool stream_has_room(const struct stream *stream)
{
	return stream->muted || stream->end < stream->capacity || stream->start >= stream->capacity / 2 ||
	       (stream->held && stream->capacity < HELD_BYTES_MAX);
}

/* Makes the room that stream_has_room promises. */
static void stream_make_room(struct stream *stream)
{
	if (stream->end < stream->capacity)
		return;
	if (stream->start < stream->capacity / 2 || stream->capacity == 0) {
		stream->capacity = stream->capacity ? 2 * stream->capacity : BUFFER_BYTES;
		stream->data = must(realloc(stream->data, stream->capacity));
		return;
	}
	memmove(stream->data, stream->data + stream->start, stream_pending(stream));
	stream->end -= stream->start;
	stream->start = 0;
}

static void stream_take(struct stream *stream, size_t size)
{
	stream->start += size;
	stream->ready -= size;
	if (stream->start == stream->end)
		stream->start = stream->end = 0;
}

/* Swallows what has not become ready, and all that follows. */
static void stream_mute(struct stream *stream)
{
	stream->end = stream->start + stream->ready;
	stream->muted = true;
}

/* Reads once. False if nothing came. */
static bool stream_read(struct stream *stream, struct side *from)
{
	char swallowed[BUFFER_BYTES];
	ssize_t size;

	if (stream->muted) {
		size = recv(from->fd, swallowed, sizeof swallowed, 0);
	} else {
		stream_make_room(stream);
		size = recv(from->fd, stream->data + stream->end, stream->capacity - stream->end, 0);
		stream->end += size > 0 ? (size_t)size : 0;
	}
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (size <= 0) {
		from->ended = true;
		from->broken = size < 0;
	}
	return size > 0;
}

/* Writes what is ready. Returns how much was taken. */
static size_t stream_write(struct stream *stream, struct side *to, bool slow, int64_t now_ms)
{
	size_t size = slow ? least(stream->ready, SLOW_BYTES) : stream->ready;
	ssize_t sent;

	if (size == 0 || to->blocked || (slow && now_ms < stream->slow_ms))
		return 0;
	if (to->fd < 0 || to->deaf) { /* nobody is there to read it */
		stream_take(stream, stream->ready);
		return 0;
	}
	sent = send(to->fd, stream->data + stream->start, size, MSG_NOSIGNAL);
	if (sent < 0) {
		to->blocked = errno == EAGAIN;
		to->deaf = errno != EAGAIN && errno != EINTR;
		return 0;
	}
	stream_take(stream, (size_t)sent);
	to->blocked = (size_t)sent < size;
	stream->slow_ms = slow ? now_ms + sent : 0;
	return (size_t)sent;
}

/* ---- messages of the client ---- */

struct message {
	uint64_t size;
	enum event event;
	int api;
};

static uint32_t get32(const char *bytes)
{
	uint32_t big;

	memcpy(&big, bytes, sizeof big);
	return ntohl(big);
}

static int get16(const char *bytes)
{
	return (int16_t)((unsigned char)bytes[0] << 8 | (unsigned char)bytes[1]);
}

static void set_who(struct link *link, const char *text, size_t size)
{
	size = least(size, sizeof link->who - 1);
	for (size_t i = 0; i < size; i++)
		link->who[i] = text[i] > ' ' && text[i] < 127 ? text[i] : '?';
	link->who[size] = '\0';
}

/* 0: not enough of it is there; -1: no such protocol. */
static int read_kafka(struct link *link, const char *bytes, size_t there, struct message *message)
{
	int length;

	if (there < 4)
		return 0;
	if (get32(bytes) < 10 || get32(bytes) > INT32_MAX)
		return -1;
	message->size = (uint64_t)get32(bytes) + 4;
	if (there < message->size && there < HEAD_BYTES)
		return 0;
	message->event = EVENT_API;
	message->api = get16(bytes + 4);
	length = get16(bytes + 12); /* of client.id, behind version and correlation id; -1: none */
	if (link->who[0] == '\0' && length > 0)
		set_who(link, bytes + 14, least((size_t)length, least(there, message->size) - 14));
	return 1;
}

/* The value of a startup message's parameter: names and values alternate, each ends with a zero byte. */
static const char *find_parameter(const char *bytes, size_t size, const char *wanted)
{
	const char *end = bytes + size, *name = bytes;

	while (name < end && *name) {
		const char *value = name + strnlen(name, (size_t)(end - name)) + 1;

		if (value >= end || memchr(value, '\0', (size_t)(end - value)) == NULL)
			return NULL;
		if (strcmp(name, wanted) == 0)
			return value;
		name = value + strlen(value) + 1;
	}
	return NULL;
}

/* Before it, a client may ask for TLS or GSSAPI, which the server answers with one byte. */
static int read_startup(struct link *link, const char *bytes, size_t there, struct message *message)
{
	const char *name;

	if (there < 8)
		return 0;
	message->size = get32(bytes);
	if (message->size < 8 || message->size > STARTUP_BYTES_MAX)
		return -1;
	if (get32(bytes + 4) == 80877103 || get32(bytes + 4) == 80877104)
		return 1;
	if (get32(bytes + 4) >> 16 != 3)
		return -1;
	if (there < message->size)
		return 0;
	name = find_parameter(bytes + 8, message->size - 8, "application_name");
	if (name)
		set_who(link, name, strlen(name));
	link->started = true;
	return 1;
}

static bool is_statement(const char *text, size_t size, const char *word)
{
	size_t length = strlen(word);

	return size > length && strncasecmp(text, word, length) == 0 && strchr(" ;", text[length]);
}

static int read_pg(struct link *link, const char *bytes, size_t there, struct message *message)
{
	const char *text, *end;

	if (!link->started)
		return read_startup(link, bytes, there, message);
	if (there < 5)
		return 0;
	if (get32(bytes + 1) < 4 || get32(bytes + 1) > INT32_MAX)
		return -1;
	message->size = (uint64_t)get32(bytes + 1) + 1;
	if (there < message->size && there < HEAD_BYTES)
		return 0;
	text = bytes + 5;
	end = bytes + least(there, message->size);
	if (bytes[0] == 'P') { /* Parse: the name that it is prepared under stands first */
		text = memchr(text, '\0', (size_t)(end - text));
		text = text ? text + 1 : end;
	}
	if (bytes[0] != 'P' && bytes[0] != 'Q')
		return 1;
	if (is_statement(text, (size_t)(end - text), "BEGIN"))
		message->event = EVENT_BEGIN;
	else if (is_statement(text, (size_t)(end - text), "COMMIT"))
		message->event = EVENT_COMMIT;
	return 1;
}

/* ---- rules ---- */

static void act(struct link *link, struct rule *rule, int64_t now_ms)
{
	rule->acting++;
	link->rule = rule;
	link->fired_ms = link->heard_ms = now_ms;
	link->due_ms = now_ms + rule->ms;
	tell(rule->controller, "fired %s %s\n", rule->id, link->who[0] ? link->who : "-");
	switch (rule->action) {
	case MUTE_BACK:
		stream_mute(&link->back);
		break;
	case MUTE_FORTH:
		stream_mute(&link->forth);
		break;
	case HALF_OPEN:
		stream_mute(&link->forth);
		stream_mute(&link->back);
		break;
	case RESET:
		stream_write(&link->forth, &link->server, false, now_ms);
		end_link(link, true);
		break;
	case ANSWER_LOST:
		link->collecting = true;
		stream_mute(&link->back);
		break;
	case DETACH:
		link->collecting = link->forth.held = true;
		stream_mute(&link->back);
		break;
	case HOLD:
		link->forth.held = true;
		break;
	default:
		link->slow = true;
		break;
	}
}

static bool matches(const struct rule *rule, const struct link *link)
{
	return !rule->fired && !rule->over && rule->kind == link->kind &&
	       (strcmp(rule->who, "*") == 0 || strstr(link->who, rule->who));
}

static void meet(struct proxy *proxy, struct link *link, const struct message *message)
{
	for (struct rule *rule = proxy->rules; rule && link->rule == NULL && !link->over; rule = rule->next) {
		if (rule->event != message->event || (rule->event == EVENT_API && rule->api != message->api) || !matches(rule, link) ||
		    --rule->left > 0)
			continue;
		rule->fired = true;
		act(link, rule, proxy->now_ms);
	}
}

static void fire_now(struct proxy *proxy, struct rule *rule)
{
	for (struct link *link = proxy->links; link; link = link->next)
		if (!link->over && link->rule == NULL && matches(rule, link))
			act(link, rule, proxy->now_ms);
	rule->fired = true;
	finish(rule);
}

/* Finds the messages in what the client wrote, and lets them through unless a rule says otherwise. */
static void scan(struct proxy *proxy, struct link *link)
{
	struct stream *forth = &link->forth;
	size_t there;

	while (!link->over && !forth->held && (there = stream_pending(forth) - forth->ready) > 0) {
		struct message message = { 0 };
		const char *bytes = forth->data + forth->start + forth->ready;
		size_t through = link->opaque ? there : (size_t)(link->left < there ? link->left : there);
		int known;

		if (through > 0) {
			forth->ready += through;
			link->left -= link->opaque ? 0 : through;
			continue;
		}
		known = link->kind == KAFKA ? read_kafka(link, bytes, there, &message) : read_pg(link, bytes, there, &message);
		if (known == 0) {
			forth->ready += link->client.ended ? there : 0; /* the rest of it will not come */
			return;
		}
		link->opaque = known < 0;
		if (message.event != EVENT_NONE && link->rule == NULL)
			meet(proxy, link, &message);
		if (!forth->held && !forth->muted) /* a held message is looked at again */
			link->left = message.size;
	}
}

/* ---- links: their life ---- */

static void open_link(struct proxy *proxy, const struct listener *listener)
{
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
	struct link *link;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		die("accept");
	if (fd < 0)
		return;
	link = must(calloc(1, sizeof *link));
	link->kind = listener->kind;
	link->client = (struct side){ .fd = fd, .slot = -1 };
	link->server = (struct side){ .slot = -1 };
	link->server.fd = socket(listener->target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (link->server.fd < 0)
		die("socket");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (listener->target.ss_family == AF_INET)
		(void)setsockopt(link->server.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	/* One that is refused later shows it when it is read. */
	if (connect(link->server.fd, (const struct sockaddr *)&listener->target, listener->target_size) < 0 &&
	    errno != EINPROGRESS)
		end_link(link, false);
	link->next = proxy->links;
	proxy->links = link;
	proxy->counters[link->kind].connections++;
	proxy->counters[link->kind].open++;
}

static void free_link(struct proxy *proxy, struct link *link)
{
	proxy->counters[link->kind].open--;
	free(link->forth.data);
	free(link->back.data);
	free(link);
}

static void wait_afterwards(struct link *link, int64_t now_ms)
{
	link->forth.held = false;
	link->afterwards = true;
	stream_mute(&link->back);
	link->due_ms = now_ms + AFTERWARDS_MS;
}

/* What the rule does when its time has come. */
static void fall_due(struct link *link, int64_t now_ms)
{
	switch (link->rule->action) {
	case ANSWER_LOST:
		end_link(link, false);
		break;
	case DETACH:
	case HOLD:
		if (link->afterwards) {
			end_link(link, false);
		} else if (link->client.ended) {
			wait_afterwards(link, now_ms);
		} else {
			link->forth.held = false;
			release(link);
		}
		break;
	case SLOW:
		link->slow = false;
		release(link);
		break;
	default:
		end_link(link, true);
		break;
	}
}

/* When the link wants to be looked at even if nothing comes. */
static int64_t wake_ms(const struct link *link)
{
	int64_t wake = link->rule ? link->due_ms : NEVER, settled = link->heard_ms + SETTLE_MS;

	if (link->collecting) {
		if (settled > link->fired_ms + SETTLE_MAX_MS)
			settled = link->fired_ms + SETTLE_MAX_MS;
		return link->client.ended ? 0 : settled;
	}
	if (link->slow && link->forth.ready > 0 && !link->server.blocked && link->forth.slow_ms < wake)
		wake = link->forth.slow_ms;
	if (link->slow && link->back.ready > 0 && !link->client.blocked && link->back.slow_ms < wake)
		wake = link->back.slow_ms;
	return wake;
}

static void tick(struct link *link, int64_t now_ms)
{
	if (link->rule == NULL || now_ms < wake_ms(link))
		return;
	if (link->collecting) {
		link->collecting = false;
		close_side(&link->client, true);
		if (link->rule->action == ANSWER_LOST)
			link->due_ms = now_ms + link->rule->ms;
	}
	if (now_ms >= link->due_ms)
		fall_due(link, now_ms);
}

/* Whether the server is to outlive the client. */
static bool outlives(const struct link *link)
{
	enum action action = link->rule ? link->rule->action : ACTIONS;

	return action == ANSWER_LOST || action == DETACH || action == HOLD;
}

/* The end of one side is told to the other, behind its last bytes. */
static void pass_end_on(struct link *link, const struct side *from, struct stream *stream, struct side *to)
{
	if (link->over || !from->ended || stream->muted || stream->shut || stream_pending(stream) > 0)
		return;
	if (from->broken) {
		end_link(link, true);
	} else if (to->fd >= 0) {
		shutdown(to->fd, SHUT_WR);
		stream->shut = true;
	}
}

static void settle_end(struct link *link)
{
	bool answered = link->back.muted || stream_pending(&link->back) == 0;
	bool delivered = link->forth.held || link->forth.muted || stream_pending(&link->forth) == 0;

	if (!outlives(link))
		pass_end_on(link, &link->client, &link->forth, &link->server);
	pass_end_on(link, &link->server, &link->back, &link->client);
	if (link->over)
		return;
	if (link->client.ended && link->server.ended && answered && delivered)
		end_link(link, false);
	else if (link->server.ended && link->server.deaf && link->back.shut) /* the client writes to nobody, and is to notice */
		end_link(link, true);
}

static bool has_come(const struct proxy *proxy, int slot, short events)
{
	return slot >= 0 && proxy->slots[slot].revents & (events | POLLERR | POLLHUP | POLLNVAL);
}

static void step(struct proxy *proxy, struct link *link)
{
	struct counters *counters = &proxy->counters[link->kind];

	if (has_come(proxy, link->client.slot, POLLOUT))
		link->client.blocked = false;
	if (has_come(proxy, link->server.slot, POLLOUT))
		link->server.blocked = false;
	if (has_come(proxy, link->client.slot, POLLIN) && !link->client.ended && stream_has_room(&link->forth) &&
	    stream_read(&link->forth, &link->client))
		link->heard_ms = proxy->now_ms;
	if (has_come(proxy, link->server.slot, POLLIN) && !link->server.ended && stream_has_room(&link->back) &&
	    stream_read(&link->back, &link->server) && link->rule && link->rule->action == ANSWER_LOST)
		link->due_ms = proxy->now_ms + link->rule->ms;
	tick(link, proxy->now_ms);
	scan(proxy, link);
	if (link->over)
		return;
	link->back.ready = stream_pending(&link->back);
	counters->forth += stream_write(&link->forth, &link->server, link->slow, proxy->now_ms);
	counters->back += stream_write(&link->back, &link->client, link->slow, proxy->now_ms);
	settle_end(link);
}

/* ---- controllers: what they say ---- */

static int find_name(const char *const *names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

static bool read_number(const char *text, long least_one, long *number)
{
	char *end;

	errno = 0;
	*number = strtol(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *number >= least_one && *number <= INT32_MAX;
}

static bool read_event(const char *text, struct rule *rule)
{
	long api = 0;

	if (strcmp(text, "now") == 0)
		rule->event = EVENT_NOW;
	else if (rule->kind == KAFKA && strncmp(text, "api:", 4) == 0 && read_number(text + 4, 0, &api))
		rule->event = EVENT_API;
	else if (rule->kind == PG && strcmp(text, "begin") == 0)
		rule->event = EVENT_BEGIN;
	else if (rule->kind == PG && strcmp(text, "commit") == 0)
		rule->event = EVENT_COMMIT;
	rule->api = (int)api;
	return rule->event != EVENT_NONE;
}

static struct rule *find_rule(const struct proxy *proxy, const struct controller *controller, const char *id)
{
	for (struct rule *rule = proxy->rules; rule; rule = rule->next)
		if (rule->controller == controller && !rule->over && strcmp(rule->id, id) == 0)
			return rule;
	return NULL;
}

/* What is wrong with "add ID KIND WHO EVENT NTH ACTION MS"; NULL if nothing is. */
static const char *read_rule(char *words[], size_t count, struct rule *rule)
{
	int kind, action;
	long ms;

	if (count != 8 || strlen(words[1]) >= sizeof rule->id || strlen(words[3]) >= sizeof rule->who)
		return "wanted: add ID KIND WHO EVENT NTH ACTION MS";
	kind = find_name(kind_names, KINDS, words[2]);
	action = find_name(action_names, ACTIONS, words[6]);
	if (kind < 0)
		return "no such kind";
	rule->kind = (enum kind)kind;
	if (!read_event(words[4], rule))
		return "no such event";
	if (action < 0)
		return "no such action";
	rule->action = (enum action)action;
	if (!read_number(words[5], 1, &rule->left) || !read_number(words[7], 0, &ms))
		return "not a number";
	rule->ms = ms;
	strcpy(rule->id, words[1]);
	strcpy(rule->who, words[3]);
	return NULL;
}

static void add_rule(struct proxy *proxy, struct controller *controller, char *words[], size_t count)
{
	struct rule *rule = must(calloc(1, sizeof *rule)), **last = &proxy->rules;
	const char *wrong = read_rule(words, count, rule);

	if (wrong == NULL && find_rule(proxy, controller, rule->id))
		wrong = "there is such a rule";
	if (wrong) {
		tell(controller, "error %.63s %s\n", count > 1 ? words[1] : "-", wrong);
		free(rule);
		return;
	}
	rule->controller = controller;
	while (*last)
		last = &(*last)->next;
	*last = rule;
	tell(controller, "ok %s\n", rule->id);
	if (rule->event == EVENT_NOW)
		fire_now(proxy, rule);
}

static void delete_rule(const struct proxy *proxy, struct controller *controller, const char *id)
{
	struct rule *rule = find_rule(proxy, controller, id);

	if (rule == NULL || rule->fired) {
		tell(controller, "error %.63s there is no such rule, or it has fired\n", id);
		return;
	}
	rule->over = true;
	tell(controller, "ok %s\n", id);
}

static void tell_counters(const struct proxy *proxy, struct controller *controller)
{
	char line[LINE_BYTES] = "";

	for (int kind = 0; kind < KINDS; kind++) {
		const struct counters *c = &proxy->counters[kind];
		size_t used = strlen(line);

		snprintf(line + used, sizeof line - used, " %s connections=%llu open=%llu forth=%llu back=%llu", kind_names[kind],
			 (unsigned long long)c->connections, (unsigned long long)c->open, (unsigned long long)c->forth,
			 (unsigned long long)c->back);
	}
	tell(controller, "stat%s\n", line);
}

static void obey(struct proxy *proxy, struct controller *controller, char *line)
{
	char *words[9], *rest = NULL;
	size_t count = 0;

	for (char *word = strtok_r(line, " \t\r", &rest); word && count < 9; word = strtok_r(NULL, " \t\r", &rest))
		words[count++] = word;
	if (count == 0)
		return;
	if (strcmp(words[0], "add") == 0)
		add_rule(proxy, controller, words, count);
	else if (strcmp(words[0], "del") == 0 && count == 2)
		delete_rule(proxy, controller, words[1]);
	else if (strcmp(words[0], "stat") == 0 && count == 1)
		tell_counters(proxy, controller);
	else
		tell(controller, "error - no such command\n");
}

static void open_controller(struct proxy *proxy)
{
	int fd = accept4(proxy->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct controller *controller;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		die("accept");
	if (fd < 0)
		return;
	controller = must(calloc(1, sizeof *controller));
	controller->fd = fd;
	controller->slot = -1;
	controller->next = proxy->controllers;
	proxy->controllers = controller;
}

static void read_controller(struct proxy *proxy, struct controller *controller)
{
	ssize_t size = recv(controller->fd, controller->line + controller->line_size, LINE_BYTES - controller->line_size, 0);
	char *line = controller->line, *end;

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	controller->line_size += size > 0 ? (size_t)size : 0;
	while ((end = memchr(line, '\n', controller->line_size)) != NULL) {
		*end = '\0';
		controller->line_size -= (size_t)(end + 1 - line);
		obey(proxy, controller, line);
		line = end + 1;
	}
	memmove(controller->line, line, controller->line_size);
	if (size <= 0 || controller->line_size == LINE_BYTES)
		controller->gone = true;
}

static void write_controller(struct controller *controller)
{
	ssize_t sent = send(controller->fd, controller->answers, controller->answers_size, MSG_NOSIGNAL);

	if (sent < 0) {
		controller->gone = errno != EAGAIN && errno != EINTR;
		return;
	}
	controller->answers_size -= (size_t)sent;
	memmove(controller->answers, controller->answers + sent, controller->answers_size);
}

static void free_controller(struct proxy *proxy, struct controller *controller)
{
	for (struct rule *rule = proxy->rules; rule; rule = rule->next) {
		if (rule->controller != controller)
			continue;
		rule->controller = NULL;
		if (!rule->fired)
			rule->over = true;
	}
	close(controller->fd);
	free(controller->answers);
	free(controller);
}

/* ---- the loop ---- */

static int add_slot(struct proxy *proxy, int fd, short events)
{
	if (fd < 0 || events == 0)
		return -1;
	if (proxy->slot_count == proxy->slot_capacity) {
		proxy->slot_capacity = 2 * proxy->slot_capacity + 64;
		proxy->slots = must(realloc(proxy->slots, proxy->slot_capacity * sizeof *proxy->slots));
	}
	proxy->slots[proxy->slot_count] = (struct pollfd){ .fd = fd, .events = events };
	return (int)proxy->slot_count++;
}

static short wanted(const struct side *side, const struct stream *from, const struct stream *to)
{
	return (short)((!side->ended && stream_has_room(from) ? POLLIN : 0) | (side->blocked && to->ready > 0 ? POLLOUT : 0));
}

/* Fills the poll set. Returns when to wake up at the latest. */
static int64_t gather(struct proxy *proxy)
{
	int64_t wake = NEVER;

	proxy->slot_count = 0;
	proxy->control_slot = add_slot(proxy, proxy->control_fd, POLLIN);
	for (size_t i = 0; i < proxy->listener_count; i++)
		proxy->listeners[i].slot = add_slot(proxy, proxy->listeners[i].fd, POLLIN);
	for (struct controller *c = proxy->controllers; c; c = c->next)
		c->slot = add_slot(proxy, c->fd, (short)(POLLIN | (c->answers_size > 0 ? POLLOUT : 0)));
	for (struct link *link = proxy->links; link; link = link->next) {
		link->client.slot = add_slot(proxy, link->client.fd, wanted(&link->client, &link->forth, &link->back));
		link->server.slot = add_slot(proxy, link->server.fd, wanted(&link->server, &link->back, &link->forth));
		if (wake_ms(link) < wake)
			wake = wake_ms(link);
	}
	return wake;
}

static void sweep(struct proxy *proxy)
{
	for (struct controller **at = &proxy->controllers, *controller; (controller = *at) != NULL;) {
		if (!controller->gone) {
			at = &controller->next;
			continue;
		}
		*at = controller->next;
		free_controller(proxy, controller);
	}
	for (struct link **at = &proxy->links, *link; (link = *at) != NULL;) {
		if (!link->over) {
			at = &link->next;
			continue;
		}
		*at = link->next;
		free_link(proxy, link);
	}
	for (struct rule **at = &proxy->rules, *rule; (rule = *at) != NULL;) {
		if (!rule->over) {
			at = &rule->next;
			continue;
		}
		*at = rule->next;
		free(rule);
	}
}

static void serve(struct proxy *proxy)
{
	for (struct controller *controller = proxy->controllers; controller; controller = controller->next)
		if (has_come(proxy, controller->slot, POLLIN))
			read_controller(proxy, controller);
	for (struct link *link = proxy->links; link; link = link->next)
		if (!link->over)
			step(proxy, link);
	for (struct controller *controller = proxy->controllers; controller; controller = controller->next)
		if (controller->answers_size > 0 && !controller->gone)
			write_controller(controller);
	for (size_t i = 0; i < proxy->listener_count; i++)
		if (has_come(proxy, proxy->listeners[i].slot, POLLIN))
			open_link(proxy, &proxy->listeners[i]);
	if (has_come(proxy, proxy->control_slot, POLLIN))
		open_controller(proxy);
	sweep(proxy);
}

/* Signals are let in only while it waits, so that none is missed. */
static void run(struct proxy *proxy)
{
	sigset_t none;

	sigemptyset(&none);
	while (!stopping) {
		int64_t wake = gather(proxy), left = wake - clock_ms();
		struct timespec timeout = { .tv_sec = left > 0 ? left / 1000 : 0, .tv_nsec = left > 0 ? left % 1000 * 1000000 : 0 };

		if (ppoll(proxy->slots, proxy->slot_count, wake == NEVER ? NULL : &timeout, &none) < 0) {
			if (errno != EINTR)
				die("poll");
			continue;
		}
		proxy->now_ms = clock_ms();
		serve(proxy);
	}
}

/* ---- the start ---- */

static void set_unix(struct sockaddr_storage *address, socklen_t *size, const char *path)
{
	struct sockaddr_un *local = (struct sockaddr_un *)address;

	errno = ENAMETOOLONG;
	if (strlen(path) >= sizeof local->sun_path)
		die(path);
	memset(address, 0, sizeof *address);
	local->sun_family = AF_UNIX;
	strcpy(local->sun_path, path);
	*size = sizeof *local;
}

static void set_target(struct listener *listener, char *target)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	char *colon = strrchr(target, ':');

	if (target[0] == '/') {
		set_unix(&listener->target, &listener->target_size, target);
		return;
	}
	errno = EINVAL;
	if (colon == NULL)
		die(target);
	*colon = '\0';
	if (getaddrinfo(target, colon + 1, &hints, &found) != 0)
		die(target);
	memcpy(&listener->target, found->ai_addr, found->ai_addrlen);
	listener->target_size = found->ai_addrlen;
	freeaddrinfo(found);
}

static int listen_tcp(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 128) < 0)
		die("cannot listen");
	return fd;
}

/* The socket gets its name when it can be connected to. */
static int listen_unix(const char *path)
{
	char unfinished[sizeof((struct sockaddr_un *)0)->sun_path + 8];
	struct sockaddr_storage address;
	socklen_t size;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(unfinished, sizeof unfinished, "%s.new", path);
	set_unix(&address, &size, unfinished);
	unlink(unfinished);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 16) < 0 || rename(unfinished, path) < 0)
		die(path);
	return fd;
}

/* kafka|pg:LISTEN_PORT:TARGET */
static void add_listener(struct proxy *proxy, char *spec)
{
	struct listener *listener = &proxy->listeners[proxy->listener_count];
	char *port = strchr(spec, ':'), *target = port ? strchr(port + 1, ':') : NULL;
	long number = 0;
	int kind;

	errno = EINVAL;
	if (target == NULL || proxy->listener_count == SPECS_MAX)
		die(spec);
	*port++ = *target++ = '\0';
	kind = find_name(kind_names, KINDS, spec);
	if (kind < 0 || !read_number(port, 1, &number) || number > UINT16_MAX)
		die(spec);
	listener->kind = (enum kind)kind;
	set_target(listener, target);
	listener->fd = listen_tcp((int)number);
	proxy->listener_count++;
}

static void prepare_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t ending;

	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigprocmask(SIG_BLOCK, &ending, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static void raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static void end_all(struct proxy *proxy)
{
	for (struct controller *controller = proxy->controllers; controller; controller = controller->next)
		controller->gone = true;
	for (struct link *link = proxy->links; link; link = link->next)
		end_link(link, true);
	sweep(proxy);
	free(proxy->slots);
}

int main(int argc, char **argv)
{
	struct proxy proxy = { .now_ms = clock_ms() };
	pid_t parent = getppid();
	int first = 1;

	prepare_signals();
	raise_limit();
	if (argc > 1 && strcmp(argv[1], "-p") == 0) {
		first = 2;
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			return EXIT_FAILURE;
	}
	if (argc < first + 2) {
		fprintf(stderr, "usage: fault-proxy [-p] CONTROL_SOCKET kafka|pg:LISTEN_PORT:TARGET...\n");
		return 2;
	}
	for (int i = first + 1; i < argc; i++)
		add_listener(&proxy, argv[i]);
	proxy.control_fd = listen_unix(argv[first]);
	run(&proxy);
	end_all(&proxy);
	unlink(argv[first]);
	return EXIT_SUCCESS;
}
