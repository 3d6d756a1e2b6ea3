/* The file of commands, and the generator: commands for the data set that data.sql makes, by formula, from a seed. */
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schemas/codec.h"
#include "schemas/duplicate.h"
#include "worker/base/clock.h"

/* ---- the file ---- */

#define SIZES 3

struct bench_file {
	char *bytes;
	size_t size, count;
	size_t *offsets;
};

static uint32_t read_size(const char *bytes)
{
	const unsigned char *b = (const unsigned char *)bytes;

	return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void write_size(size_t size)
{
	for (int shift = 0; shift < 32; shift += 8)
		putchar((int)(size >> shift & 0xff));
}

static size_t record_size(const char *bytes)
{
	return 4 * SIZES + (size_t)read_size(bytes) + read_size(bytes + 4) + read_size(bytes + 8);
}

/* offsets (if not NULL) receives where each record begins. */
static size_t find_records(const struct bench_file *file, const char *path, size_t *offsets)
{
	size_t count = 0, at = 0;

	while (at < file->size) {
		if (file->size - at < 4 * SIZES || file->size - at < record_size(file->bytes + at))
			bench_die("%s is cut off", path);
		if (offsets)
			offsets[count] = at;
		count++;
		at += record_size(file->bytes + at);
	}
	return count;
}

struct bench_file *bench_open(const char *path)
{
	struct bench_file *file = calloc(1, sizeof *file);
	int fd = open(path, O_RDONLY);
	struct stat stat;

	if (file == NULL || fd < 0 || fstat(fd, &stat) < 0)
		bench_die("%s: %s", path, strerror(errno));
	file->size = (size_t)stat.st_size;
	file->bytes = file->size ? mmap(NULL, file->size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0) : NULL;
	if (file->bytes == MAP_FAILED)
		bench_die("%s: %s", path, strerror(errno));
	close(fd);
	file->count = find_records(file, path, NULL);
	file->offsets = calloc(file->count + 1, sizeof *file->offsets);
	if (file->offsets == NULL)
		bench_die("out of memory");
	(void)find_records(file, path, file->offsets);
	return file;
}

void bench_close(struct bench_file *file)
{
	if (file == NULL)
		return;
	if (file->bytes)
		munmap(file->bytes, file->size);
	free(file->offsets);
	free(file);
}

size_t bench_count(const struct bench_file *file)
{
	return file->count;
}

size_t bench_range(int argc, char **argv, const struct bench_file *file, size_t *from)
{
	long long first = bench_number(argc, argv, "from", "0"), count = bench_number(argc, argv, "count", "0");

	if ((size_t)first >= file->count || (size_t)count > file->count - (size_t)first)
		bench_die("from=%lld count=%lld are beyond the %zu commands", first, count, file->count);
	*from = (size_t)first;
	return count ? (size_t)count : file->count - *from;
}

void bench_get(const struct bench_file *file, size_t i, struct bench_record *record)
{
	const char *sizes = file->bytes + file->offsets[i], *bytes = sizes + 4 * SIZES;

	record->key_size = read_size(sizes);
	record->trace_size = read_size(sizes + 4);
	record->value_size = read_size(sizes + 8);
	record->key = bytes;
	record->trace_id = bytes + record->key_size;
	record->value = bytes + record->key_size + record->trace_size;
}

static void write_record(const struct duplicate_command *command, const void *value, size_t size)
{
	size_t key_size = strlen(command->head.account_group_id), trace_size = strlen(command->head.trace_id);

	write_size(key_size);
	write_size(trace_size);
	write_size(size);
	fwrite(command->head.account_group_id, 1, key_size, stdout);
	fwrite(command->head.trace_id, 1, trace_size, stdout);
	fwrite(value, 1, size, stdout);
}

/* ---- the data set ---- */

#define LISTS 20          /* ordinary ones of a group, and as many campaigns */
#define CONFLICT 20       /* an audience some of whose leads are enrolled */
#define POPULATING 21
#define THOUSAND 22       /* in groups 0 to 99 */
#define THOUSAND_GROUPS 100
#define BIG 23            /* in groups 0 to 3 */
#define BIG_GROUPS 4
#define FOLDER 27         /* the leads of BIG, in 200 lists */
#define ENROLLED 2499     /* a lead of no ordinary list */
#define LEADS_SMALL 189   /* every group has a list of at least so many */

struct bench_audience bench_audience(unsigned group, unsigned i)
{
	if (i == CONFLICT)
		return (struct bench_audience){ 2290, 30 };
	if (i == THOUSAND)
		return (struct bench_audience){ 0, 1000 };
	if (i == BIG || i == FOLDER)
		return (struct bench_audience){ 3000, 20000 };
	return (struct bench_audience){ i * 100, 25 + (group * 7 + i * 31) % 176 };
}

const char *bench_id(char id[BENCH_ID_SIZE], char letter, unsigned long long number)
{
	snprintf(id, BENCH_ID_SIZE, "%c%023llx", letter, number);
	return id;
}

const char *bench_lead(char id[BENCH_ID_SIZE], unsigned long long group, unsigned long long number)
{
	return bench_id(id, 'e', group * 100000 + (group % 2 == 0 ? number : number * 40503 % 65536));
}

unsigned long long bench_id_number(const char *id)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(*id ? id + 1 : id, &end, 16);
	if (end == id || *end || errno)
		bench_die("%s is no id of the data set", id);
	return number;
}

/* ---- the generator ---- */

enum mistake {
	REVOKED_KEY,
	SLOW_KEY,
	UNKNOWN_CAMPAIGN,
	UNKNOWN_AUDIENCE,
	LEAD_ELSEWHERE,
	AUDIENCE_POPULATING,
	LEAD_ENROLLED,
	BAD_FIELD,
	MISTAKES,
	NO_MISTAKE = MISTAKES,
};

struct generator {
	unsigned groups;
	size_t leads; /* 0: all of the audience */
	bool skew, big, folder;
	long long errors;
	uint64_t seed, state;
	int64_t now_ms;
};

/* splitmix64 (Steele, Lea and Flood, 2014): a bijection, so that traceIds are distinct. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint64_t next_random(struct generator *generator)
{
	return mix(generator->state += 0x9e3779b97f4a7c15u);
}

static unsigned below(struct generator *generator, unsigned n)
{
	return (unsigned)(next_random(generator) % n);
}

/* Skewed: group g about as often as 1 / (g + 1), as cities and customers are. */
static unsigned pick_group(struct generator *generator, enum mistake mistake)
{
	unsigned octaves = 0, octave, group;

	if (mistake == SLOW_KEY) /* few groups: more than the key's one a second */
		return below(generator, 1 + generator->groups / 200);
	if (generator->big)
		return below(generator, generator->groups < BIG_GROUPS ? generator->groups : BIG_GROUPS);
	if (generator->leads > LEADS_SMALL)
		return below(generator, generator->groups < THOUSAND_GROUPS ? generator->groups : THOUSAND_GROUPS);
	if (!generator->skew)
		return below(generator, generator->groups);
	while (generator->groups >> octaves)
		octaves++;
	do {
		octave = below(generator, octaves);
		group = (1u << octave) - 1 + below(generator, 1u << octave);
	} while (group >= generator->groups);
	return group;
}

static unsigned pick_audience(struct generator *generator, unsigned group, enum mistake mistake)
{
	unsigned i = below(generator, LISTS);

	if (mistake == AUDIENCE_POPULATING)
		return POPULATING;
	if (mistake == LEAD_ENROLLED)
		return CONFLICT;
	if (generator->big)
		return generator->folder ? FOLDER : BIG;
	if (generator->leads > LEADS_SMALL)
		return THOUSAND;
	while (bench_audience(group, i).n < generator->leads)
		i = (i + 1) % LISTS;
	return i;
}

/* n distinct ones of the audience, in random order: the first of a shuffle. */
static void pick_leads(struct generator *generator, struct arena *arena, unsigned group, struct bench_audience audience,
		       struct duplicate_command *command)
{
	size_t n = generator->leads < audience.n ? generator->leads : audience.n;
	unsigned *numbers = arena_array(arena, audience.n, sizeof *numbers);
	char id[BENCH_ID_SIZE];

	command->lead_ids = arena_array(arena, n, sizeof *command->lead_ids);
	command->lead_count = n;
	for (unsigned i = 0; i < audience.n; i++)
		numbers[i] = audience.first + i;
	for (unsigned i = 0; i < n; i++) {
		unsigned other = i + below(generator, audience.n - i), number = numbers[other];

		numbers[other] = numbers[i];
		bench_lead(id, group, number);
		command->lead_ids[i] = arena_strndup(arena, id, BENCH_ID_SIZE - 1);
	}
}

static void set_leads(struct generator *generator, struct arena *arena, unsigned group, unsigned audience,
		      enum mistake mistake, struct duplicate_command *command)
{
	char id[BENCH_ID_SIZE];

	/* All of them are wanted there: a choice may have none that is enrolled. */
	if (mistake == LEAD_ENROLLED)
		return;
	if (generator->leads > 0)
		pick_leads(generator, arena, group, bench_audience(group, audience), command);
	if (mistake != LEAD_ELSEWHERE)
		return;
	if (command->lead_ids == NULL) {
		command->lead_ids = arena_array(arena, 1, sizeof *command->lead_ids);
		command->lead_count = 1;
	}
	bench_lead(id, group, ENROLLED);
	command->lead_ids[0] = arena_strndup(arena, id, BENCH_ID_SIZE - 1);
}

static void set_key(unsigned group, enum mistake mistake, struct duplicate_command *command)
{
	const char *kind = mistake == REVOKED_KEY ? "revoked" : mistake == SLOW_KEY ? "slow" : "key";
	char key[64];
	int size = snprintf(key, sizeof key, "bench-%s-%u", kind, group);

	SHA256((const unsigned char *)key, (size_t)size, command->head.key_digest);
	command->head.has_key = true;
}

static const char *id_of(struct arena *arena, char letter, unsigned long long number)
{
	char id[BENCH_ID_SIZE];

	return arena_strndup(arena, bench_id(id, letter, number), BENCH_ID_SIZE - 1);
}

static void make_command(struct generator *generator, uint64_t n, struct arena *arena, struct duplicate_command *command)
{
	enum mistake mistake;
	unsigned group, audience;

	generator->state = mix(generator->seed) + mix(n + 1);
	mistake = below(generator, 100) < generator->errors ? (enum mistake)below(generator, MISTAKES) : NO_MISTAKE;
	group = pick_group(generator, mistake);
	audience = pick_audience(generator, group, mistake);
	*command = (struct duplicate_command){
		.head.trace_id = arena_printf(arena, "%016llx%016llx", (unsigned long long)mix(mix(generator->seed) ^ n),
					      (unsigned long long)next_random(generator)),
		.head.account_group_id = id_of(arena, 'a', group),
		.campaign_id = id_of(arena, mistake == UNKNOWN_CAMPAIGN ? 'f' : 'c', group * 100ull + below(generator, LISTS)),
		.audience_id = id_of(arena, mistake == UNKNOWN_AUDIENCE ? 'f' : 'd', group * 100ull + audience),
		.head.issued_at_ms = generator->now_ms,
	};
	if (mistake == BAD_FIELD)
		command->name = "  ";
	else if (below(generator, 2))
		command->name = arena_printf(arena, "Second round, copy %llu", (unsigned long long)n);
	set_key(group, mistake, command);
	set_leads(generator, arena, group, audience, mistake, command);
}

static void check_options(const struct generator *generator)
{
	size_t max = generator->big ? CAMPAIGN_LEADS_MAX : 1000;

	if (generator->groups == 0 || generator->groups > 1000000)
		bench_die("groups: 1 to 1000000");
	if (generator->leads > max || (!generator->big && generator->leads > LEADS_SMALL && generator->leads < 1000))
		bench_die("leads: 1 to %d, 1000, all; big=1 leads: 1 to %d, all", LEADS_SMALL, CAMPAIGN_LEADS_MAX);
	if (generator->folder && !generator->big)
		bench_die("folder=1: with big=1");
	if (generator->errors > 100)
		bench_die("errors: 0 to 100");
}

int bench_make(int argc, char **argv)
{
	long long count = bench_number(argc, argv, "count", NULL), times = bench_number(argc, argv, "times", "1");
	struct generator generator = {
		.groups = (unsigned)bench_number(argc, argv, "groups", "1000"),
		.skew = bench_number(argc, argv, "skew", "0"),
		.big = bench_number(argc, argv, "big", "0"),
		.folder = bench_number(argc, argv, "folder", "0"),
		.errors = bench_number(argc, argv, "errors", "0"),
		.seed = (uint64_t)bench_number(argc, argv, "seed", "1"),
		.now_ms = clock_wall_ms(),
	};
	struct arena *arena = arena_new(1 << 20);
	struct fault fault;
	struct codec *codec = codec_new(&duplicate_contract, NULL, NULL, &fault);

	if (codec == NULL)
		bench_die("%s", fault.msg);
	if (strcmp(bench_option(argc, argv, "leads", generator.big ? "all" : "25"), "all") != 0)
		generator.leads = (size_t)bench_number(argc, argv, "leads", "25");
	check_options(&generator);
	if (times == 0)
		bench_die("times: how often each command stands in a row, at least 1");
	for (long long n = 0; n < count; n++) {
		struct duplicate_command command;
		const void *value;
		size_t size;

		make_command(&generator, (uint64_t)(n / times), arena, &command);
		if (codec_encode_command(codec, &command.head, arena, &value, &size, &fault) < 0)
			bench_die("command %lld: %s", n, fault.msg);
		write_record(&command, value, size);
		arena_reset(arena);
	}
	codec_free(codec);
	arena_free(arena);
	if (fflush(stdout) != 0 || ferror(stdout))
		bench_die("writing: %s", strerror(errno));
	return 0;
}
