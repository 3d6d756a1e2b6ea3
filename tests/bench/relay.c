/* relay: a longer way to a server. It listens on ports of 127.0.0.1 and passes on what comes, each byte us microseconds after
 * it came, in both directions; so a server of this machine is as far away as one of another. It runs until it is killed. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

#define ROUTES_MAX 8
#define PAIRS_MAX 250
#define CHUNK_BYTES (64 * 1024)
#define QUEUE_BYTES (16 * 1024 * 1024) /* one direction's; more is not read before */

struct route {
	int listener;
	uint16_t to;
};

struct chunk {
	struct chunk *next;
	int64_t due_us;
	size_t size, sent; /* size 0: the sender has ended */
	char data[];
};

struct way {
	struct chunk *first, *last;
	size_t queued;
	bool ended;   /* nothing more comes */
	bool blocked; /* the receiver takes nothing at the moment */
	bool done;    /* its end was passed on */
};

/* way[0] leads from fd[0], the client, to fd[1], the server; way[1] back. */
struct pair {
	int fd[2];
	struct way way[2];
};

static struct route routes[ROUTES_MAX];
static struct pair pairs[PAIRS_MAX];
static size_t route_count, pair_count;
static int64_t delay_us;

static struct sockaddr_in local(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int set_up(int fd)
{
	int one = 1;

	if (fd >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		fcntl(fd, F_SETFL, O_NONBLOCK);
	}
	return fd;
}

static void add_route(const char *text)
{
	struct sockaddr_in address;
	unsigned from, to;
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (route_count == ROUTES_MAX || sscanf(text, "%u:%u", &from, &to) != 2 || from > 65535 || to > 65535)
		bench_die("relay: %s: at most %d routes PORT:PORT are wanted", text, ROUTES_MAX);
	address = local((uint16_t)from);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0)
		bench_die("relay: port %u: %s", from, strerror(errno));
	routes[route_count++] = (struct route){ set_up(fd), (uint16_t)to };
}

static void take_client(const struct route *route)
{
	struct sockaddr_in address = local(route->to);
	int client = accept(route->listener, NULL, NULL), server;

	if (client < 0)
		return;
	server = socket(AF_INET, SOCK_STREAM, 0);
	if (pair_count == PAIRS_MAX || connect(server, (struct sockaddr *)&address, sizeof address) < 0) {
		close(server);
		close(client);
		return;
	}
	pairs[pair_count++] = (struct pair){ .fd = { set_up(client), set_up(server) } };
}

static void append(struct way *way, const char *data, size_t size)
{
	struct chunk *chunk = malloc(sizeof *chunk + size);

	if (chunk == NULL)
		abort();
	*chunk = (struct chunk){ .due_us = wire_now_us() + delay_us, .size = size };
	memcpy(chunk->data, data, size);
	if (way->first)
		way->last->next = chunk;
	else
		way->first = chunk;
	way->last = chunk;
	way->queued += size;
}

static void receive(struct way *way, int from)
{
	static char data[CHUNK_BYTES];
	ssize_t n = read(from, data, sizeof data);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	way->ended = n <= 0;
	append(way, data, n > 0 ? (size_t)n : 0);
}

/* What is due. A receiver that is gone takes everything. */
static void pass_on(struct way *way, int to)
{
	int64_t now = wire_now_us();

	way->blocked = false;
	while (way->first && way->first->due_us <= now) {
		struct chunk *chunk = way->first;
		ssize_t n = send(to, chunk->data + chunk->sent, chunk->size - chunk->sent, MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			way->blocked = true;
			return;
		}
		chunk->sent = n < 0 ? chunk->size : chunk->sent + (size_t)n;
		if (chunk->sent < chunk->size)
			continue;
		if (chunk->size == 0) {
			shutdown(to, SHUT_WR);
			way->done = true;
		}
		way->queued -= chunk->size;
		way->first = chunk->next;
		free(chunk);
	}
}

static short wanted(const struct pair *pair, int side)
{
	const struct way *from = &pair->way[side], *to = &pair->way[!side];

	return (short)((!from->ended && from->queued < QUEUE_BYTES ? POLLIN : 0) | (to->blocked ? POLLOUT : 0));
}

/* When the next byte is due; -1: there is none that can be passed on. */
static int64_t next_due_us(void)
{
	int64_t due = -1;

	for (struct pair *pair = pairs; pair < pairs + pair_count; pair++)
		for (int i = 0; i < 2; i++)
			if (pair->way[i].first && !pair->way[i].blocked && (due < 0 || pair->way[i].first->due_us < due))
				due = pair->way[i].first->due_us;
	return due;
}

static void wait(struct pollfd *polled)
{
	int64_t due = next_due_us(), us = due < 0 ? 0 : due - wire_now_us();
	struct timespec timeout = { us > 0 ? us / 1000000 : 0, us > 0 ? us % 1000000 * 1000 : 0 };
	nfds_t n = 0;

	for (size_t i = 0; i < route_count; i++)
		polled[n++] = (struct pollfd){ .fd = routes[i].listener, .events = POLLIN };
	for (size_t i = 0; i < pair_count; i++)
		for (int side = 0; side < 2; side++) {
			short events = wanted(&pairs[i], side);

			/* one that is asked for nothing would still tell that it was hung up, again and again */
			polled[n++] = (struct pollfd){ .fd = events ? pairs[i].fd[side] : -1, .events = events };
		}
	if (ppoll(polled, n, due < 0 ? NULL : &timeout, NULL) < 0 && errno != EINTR)
		bench_die("relay: poll: %s", strerror(errno));
}

static void drop_ended(void)
{
	for (size_t i = pair_count; i-- > 0;) {
		if (!pairs[i].way[0].done || !pairs[i].way[1].done)
			continue;
		close(pairs[i].fd[0]);
		close(pairs[i].fd[1]);
		pairs[i] = pairs[--pair_count];
	}
}

int bench_relay(int argc, char **argv)
{
	static struct pollfd polled[ROUTES_MAX + 2 * PAIRS_MAX];

	delay_us = bench_number(argc, argv, "us", NULL);
	for (int i = 1; i < argc; i++)
		if (strchr(argv[i], '=') == NULL)
			add_route(argv[i]);
	fputs("ready\n", stderr);
	for (;;) {
		size_t known = pair_count;

		wait(polled);
		for (size_t i = 0; i < known; i++)
			for (int side = 0; side < 2; side++)
				if (polled[route_count + 2 * i + (size_t)side].revents & (POLLIN | POLLHUP | POLLERR) && !pairs[i].way[side].ended)
					receive(&pairs[i].way[side], pairs[i].fd[side]);
		for (size_t i = 0; i < known; i++)
			for (int side = 0; side < 2; side++)
				pass_on(&pairs[i].way[side], pairs[i].fd[!side]);
		drop_ended();
		for (size_t i = 0; i < route_count; i++)
			if (polled[i].revents)
				take_client(&routes[i]);
	}
}
