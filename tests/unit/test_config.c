/* Settings: where they come from, what is refused and how that is said, and that the example file is the table's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/base/config.h"
#include "worker/base/config_text.h"

static const struct option send_options[] = {
	{ "name", required_argument, NULL, 1 },
	{ "wait", no_argument, NULL, 2 },
	{ "account-group", required_argument, NULL, 3 },
	{ 0 }
};
static const struct subcommand subcommands[] = { { "send", send_options }, { 0 } };

static struct config config;
static struct fault fault;
static char folder[] = "/tmp/test_config.XXXXXX";
static int argc;
static char *argv[32];

static int load_as(enum program program, const char *args)
{
	static char text[2048];
	char *save = NULL;

	config_free(&config);
	snprintf(text, sizeof text, "prog %s", args);
	argc = 0;
	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	memset(&fault, 0, sizeof fault);
	return config_load(&config, program, subcommands, &argc, argv, &fault);
}

static int load(const char *args)
{
	return load_as(FOR_WORKER, args);
}

static const char *path_of(const char *name)
{
	static char paths[4][128];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* args must be refused with a message that holds all the words given. */
static void refused(const char *args, ...) __attribute__((sentinel));

static void refused(const char *args, ...)
{
	const char *word;
	va_list ap;

	assert_int_equal(load(args), -1);
	assert_int_equal(fault.kind, FAULT_FATAL);
	va_start(ap, args);
	while ((word = va_arg(ap, const char *)) != NULL)
		if (strstr(fault.msg, word) == NULL)
			fail_msg("\"%s\" is missing in: %s", word, fault.msg);
	va_end(ap);
}

static const char *property(const char *name)
{
	for (size_t i = 0; i < config.property_count; i++)
		if (strcmp(config.properties[i].name, name) == 0)
			return config.properties[i].value;
	return NULL;
}

static void test_defaults(void **state)
{
	char host[256] = "";

	(void)state;
	gethostname(host, sizeof host - 1);
	assert_int_equal(load(""), 0);
	assert_string_equal(config.brokers, "localhost:9092");
	assert_string_equal(config.group, "campaign-duplicator");
	assert_string_equal(config.instance, host);
	assert_string_equal(config.commands, "campaigns.duplicate.commands.v1");
	assert_string_equal(config.results, "campaigns.duplicate.results.v1");
	assert_string_equal(config.dead_letters, "campaigns.duplicate.dead-letters.v1");
	assert_null(config.database);
	assert_null(config.schemas);
	assert_int_equal(config.lanes, 1);
	assert_int_equal(config.batch, 500);
	assert_int_equal(config.memory, 32 << 20);
	assert_int_equal(config.batch_bytes, (32 << 20) / 20);
	assert_int_equal(config.drain_ms, 25000);
	assert_int_equal(config.breaker, 5);
	assert_int_equal(config.lock_timeout_ms, 2000);
	assert_int_equal(config.statement_timeout_ms, 30000);
	assert_int_equal(config.audience_leads_max, 50000);
	assert_int_equal(config.dead_letter_bytes, 900000);
	assert_int_equal(config.log_format, LOG_TEXT);
	assert_int_equal(config.log_level, LEVEL_INFO);
	assert_int_equal(config.property_count, 0);
	assert_int_equal(argc, 1);
}

static void test_command_line(void **state)
{
	(void)state;
	assert_int_equal(load("run --lanes 4 --batch=7 -b a:1,b:2 --once -Xdebug=all -X sasl.username=x=y --memory 16MiB "
			      "--log-format json --log-level=debug file -- --lanes 9"), 0);
	assert_int_equal(config.lanes, 4);
	assert_int_equal(config.batch, 7);
	assert_string_equal(config.brokers, "a:1,b:2");
	assert_int_equal(config.memory, 16 << 20);
	assert_int_equal(config.batch_bytes, (16 << 20) / 20);
	assert_int_equal(config.log_format, LOG_JSON);
	assert_int_equal(config.log_level, LEVEL_DEBUG);
	assert_string_equal(property("debug"), "all");
	assert_string_equal(property("sasl.username"), "x=y");
	assert_string_equal(config.properties[0].origin, "command line");
	/* What is not a setting stays, in order. */
	assert_int_equal(argc, 7);
	assert_string_equal(argv[1], "run");
	assert_string_equal(argv[2], "--once");
	assert_string_equal(argv[3], "file");
	assert_string_equal(argv[4], "--");
	assert_string_equal(argv[5], "--lanes");
	assert_string_equal(argv[6], "9");
	assert_null(argv[7]);
}

static void assert_left(const char *text)
{
	char joined[512] = "";

	for (int i = 1; i < argc; i++) {
		strcat(joined, i > 1 ? " " : "");
		strcat(joined, argv[i]);
	}
	assert_string_equal(joined, text);
}

/* What stands behind an option that takes a value is its value. */
static void test_values_that_look_like_options(void **state)
{
	(void)state;
	assert_int_equal(load_as(FOR_PRODUCER, "send --name -backup --wait -b x:1 --account-group --results --acc -Xa --name=-b -X sasl.password=-b"), 0);
	assert_left("send --name -backup --wait --account-group --results --acc -Xa --name=-b");
	assert_string_equal(config.brokers, "x:1");
	assert_string_equal(config.results, "campaigns.duplicate.results.v1");
	assert_string_equal(property("sasl.password"), "-b");
	assert_int_equal(load_as(FOR_PRODUCER, "-b x:1 send --name -- -b y:1"), -1); /* the value is "--", so -b stands twice */
	assert_non_null(strstr(fault.msg, "given twice"));
	assert_int_equal(load_as(FOR_PRODUCER, "-b x:1 send --name -- -- -b y:1"), 0);
	assert_left("send --name -- -- -b y:1");
	assert_int_equal(load_as(FOR_PRODUCER, "watch --name -b x:1"), 0); /* no option of that sub-command */
	assert_left("watch --name");
	assert_int_equal(load_as(FOR_PRODUCER, "send --name"), 0);
	assert_left("send --name");
	assert_int_equal(load("run --instance -h --group --version"), 0);
	assert_string_equal(config.instance, "-h");
	assert_string_equal(config.group, "--version");
	refused("-X -b", "-X (command line): wanted property=value", NULL);
}

static bool ask(const char *option, char **texts)
{
	struct arguments arguments = { FOR_PRODUCER, subcommands, 0, texts, 1, NULL };

	while (texts[arguments.argc])
		arguments.argc++;
	return arguments_have(arguments, option);
}

static void test_options_that_are_values(void **state)
{
	char prog[] = "prog", command[] = "send", name[] = "--name", help[] = "--help", end[] = "--", brokers[] = "--brokers";

	(void)state;
	assert_true(ask("--help", (char *[]){ prog, command, help, NULL }));
	assert_true(ask("--help", (char *[]){ prog, help, NULL }));
	assert_false(ask("--help", (char *[]){ prog, command, name, help, NULL }));
	assert_false(ask("--help", (char *[]){ prog, brokers, help, NULL }));
	assert_false(ask("--help", (char *[]){ prog, command, end, help, NULL }));
	assert_true(ask("--help", (char *[]){ prog, command, name, name, help, NULL }));
}

/* Kubernetes sets them for Services called campaign, campaign-api, campaign-kafka and the like. */
static void test_service_links(void **state)
{
	static const char *const links[][2] = {
		{ "CAMPAIGN_SERVICE_HOST", "10.0.0.1" }, { "CAMPAIGN_API_SERVICE_HOST", "fd00::1" }, { "CAMPAIGN_API_SERVICE_PORT", "80" },
		{ "CAMPAIGN_API_SERVICE_PORT_HTTP_ADMIN", "81" }, { "CAMPAIGN_PORT", "tcp://10.0.0.1:80" },
		{ "CAMPAIGN_WORKER_PORT", "udp://10.0.0.1:80" }, { "CAMPAIGN_WORKER_PORT_9090_TCP", "tcp://10.0.0.1:9090" },
		{ "CAMPAIGN_LANES_PORT_9090_TCP_PROTO", "tcp" }, { "CAMPAIGN_WORKER_PORT_9090_UDP_PORT", "9090" },
		{ "CAMPAIGN_KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1" }, { "CAMPAIGN_KAFKA_SERVICE_HOST", "10.0.0.1" },
		{ "CAMPAIGN_KAFKA_PORT_9092_SCTP", "sctp://10.0.0.1:9092" },
	};
	static const char *const mistakes[][2] = {
		{ "CAMPAIGN_LANES_PORT", "3" }, { "CAMPAIGN_WORKER_LANES", "3" }, { "CAMPAIGN_SERVICE_HOSTS", "a" },
		{ "CAMPAIGN_PORT_9090", "3" }, { "CAMPAIGN_PORT_X_TCP", "3" }, { "CAMPAIGN_PRODUCER_BROKERS", "a:1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
		setenv(links[i][0], links[i][1], 1);
	if (load("") < 0)
		fail_msg("%s", fault.msg);
	assert_int_equal(config.property_count, 0);
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
		unsetenv(links[i][0]);
	for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
		setenv(mistakes[i][0], mistakes[i][1], 1);
		refused("", mistakes[i][0], "no such setting", NULL);
		unsetenv(mistakes[i][0]);
	}
}

/* Whoever calls a Service as a setting is called must not set it. */
static void test_no_setting_looks_like_a_service_link(void **state)
{
	struct arena *arena = arena_new(0);

	(void)state;
	for (const struct setting *setting = setting_table; setting < setting_table + setting_count; setting++) {
		const char *variable = setting_variable(arena, setting->name);
		const char *end = strrchr(variable, '_');

		assert_null(strstr(variable, "_SERVICE_"));
		assert_null(strstr(variable, "_PORT_"));
		assert_string_not_equal(end, "_PORT");
	}
	arena_free(arena);
}

/* What cannot work with the other settings is said before anything is tried. */
static void test_values_that_cannot_work(void **state)
{
	(void)state;
	refused("-X queue.buffering.max.messages=10", "queue.buffering.max.messages (command line)", "at least 1000", "batch", NULL);
	assert_int_equal(load("-X queue.buffering.max.messages=10 --batch 5"), 0);
	assert_int_equal(load("-X queue.buffering.max.messages=0"), 0);
	assert_int_equal(load_as(FOR_PRODUCER, "-X queue.buffering.max.messages=10"), 0);
	refused("-X queue.buffering.max.kbytes=100", "queue.buffering.max.kbytes", "memory", NULL);
	assert_int_equal(load("-X message.max.bytes=3000"), 0); /* results and dead letters are made to fit it */
	refused("-X session.timeout.ms=500", "session.timeout.ms (command line)", "heartbeat.interval.ms", NULL);
	refused("-X heartbeat.interval.ms=6000", "heartbeat.interval.ms (command line)", NULL);
	assert_int_equal(load("-X session.timeout.ms=500 -X heartbeat.interval.ms=100"), 0);
	refused("-X socket.timeout.ms=20", "socket.timeout.ms", "1000", NULL);
	refused("-X delivery.timeout.ms=5", "delivery.timeout.ms", NULL);
	refused("-X receive.message.max.bytes=100000", "receive.message.max.bytes", NULL);
	refused("-X connections.max.idle.ms=1", "connections.max.idle.ms", NULL);
	setenv("CAMPAIGN_KAFKA_SESSION_TIMEOUT_MS", "900", 1);
	refused("", "session.timeout.ms (environment variable CAMPAIGN_KAFKA_SESSION_TIMEOUT_MS)", NULL);
	unsetenv("CAMPAIGN_KAFKA_SESSION_TIMEOUT_MS");
}

static void test_malformed(void **state)
{
	(void)state;
	refused("--lanes x", "lanes (command line)", "\"x\"", "1 to 64", NULL);
	refused("--lanes 0", "lanes", "\"0\"", NULL);
	refused("--lanes 65", "lanes", NULL);
	refused("--lanes -1", "lanes", NULL);
	refused("--lanes 1.5", "lanes", NULL);
	refused("--lanes=", "lanes", "\"\"", NULL);
	refused("--lanes 99999999999999999999", "lanes", NULL);
	refused("--memory 9223372036854775807MiB", "memory", NULL);
	refused("--memory 1KiB", "memory", "16777216 to 1073741824", "MiB", NULL);
	refused("--lanes 1KiB", "lanes", NULL);
	refused("--lanes", "lanes (command line): has no value", NULL);
	refused("-X", "has no value", NULL);
	refused("--lanes 1 --lanes 2", "lanes (command line): given twice", NULL);
	refused("--log-level loud", "log-level", "\"loud\"", "debug|info|warn|error", NULL);
	refused("--commands a/b", "commands", "topic name", NULL);
	refused("--commands ..", "commands", NULL);
	refused("--brokers=", "brokers", NULL);
	refused("--group a\tb", "group", "control", "a?b", NULL);
	refused("--commands same --results same", "commands and results", "same", NULL);
	refused("-X a=1 -X a=2", "a (command line): given twice", NULL);
	refused("-X A=1", "not the name of a librdkafka property", NULL);
	refused("-X debug=", "debug (command line): has no value", NULL);
	refused("--config /nonexistent/x", "config (command line): cannot read /nonexistent/x: No such file", NULL);
	refused("-F /nonexistent/x", "kafka-file (command line): cannot read", NULL);
}

static void test_environment(void **state)
{
	(void)state;
	setenv("CAMPAIGN_LOCK_TIMEOUT_MS", "123", 1);
	setenv("CAMPAIGN_LANES", "3", 1);
	setenv("CAMPAIGN_KAFKA_SASL_PASSWORD", "pw", 1);
	assert_int_equal(load("--lanes 2"), 0);
	assert_int_equal(config.lock_timeout_ms, 123);
	assert_int_equal(config.lanes, 2);
	assert_string_equal(property("sasl.password"), "pw");
	assert_string_equal(config.properties[0].origin, "environment variable CAMPAIGN_KAFKA_SASL_PASSWORD");
	/* The other program's settings are known, and none of this one's concern. */
	setenv("CAMPAIGN_LANES", "nonsense", 1);
	assert_int_equal(load_as(FOR_PRODUCER, ""), 0);
	assert_int_equal(config.lanes, 0);
	assert_null(config.group);
	refused("", "lanes (environment variable CAMPAIGN_LANES)", "\"nonsense\"", NULL);
	unsetenv("CAMPAIGN_LANES");

	setenv("CAMPAIGN_LANE", "3", 1);
	refused("", "environment variable CAMPAIGN_LANE", "did you mean CAMPAIGN_LANES?", NULL);
	unsetenv("CAMPAIGN_LANE");
	setenv("CAMPAIGN_ZZZZZZZZ", "3", 1);
	refused("", "environment variable CAMPAIGN_ZZZZZZZZ", "no such setting", NULL);
	unsetenv("CAMPAIGN_ZZZZZZZZ");
	setenv("CAMPAIGN_KAFKA_ACKS", "1", 1);
	refused("", "acks (environment variable CAMPAIGN_KAFKA_ACKS)", NULL);
	unsetenv("CAMPAIGN_KAFKA_ACKS");

	setenv("CAMPAIGN_API_KEY", "k", 1);
	setenv("CAMPAIGN_FAILPOINT_FILE", "k", 1);
	setenv("CAMPAIGN_TEST_X", "k", 1);
	assert_int_equal(load(""), 0);
	unsetenv("CAMPAIGN_API_KEY");
	unsetenv("CAMPAIGN_FAILPOINT_FILE");
	unsetenv("CAMPAIGN_TEST_X");
	unsetenv("CAMPAIGN_LOCK_TIMEOUT_MS");
	unsetenv("CAMPAIGN_KAFKA_SASL_PASSWORD");
}

static void test_files(void **state)
{
	char args[256];

	(void)state;
	write_file("kcat.conf", "# comment\n\nsecurity.protocol=SSL\n  client.rack = r1  \nsasl.username=k\n");
	write_file("ours.conf", "lanes = 5\n\t batch=9 \n# lanes = 6\nkafka.client.rack = r2\nkafka.sasl.mechanism = PLAIN\n"
				"group = a = b");
	snprintf(args, sizeof args, "--config %s -F %s --batch 10 -X sasl.username=c", path_of("ours.conf"), path_of("kcat.conf"));
	setenv("CAMPAIGN_LANES", "4", 1);
	assert_int_equal(load(args), 0);
	unsetenv("CAMPAIGN_LANES");
	assert_int_equal(config.lanes, 4);
	assert_int_equal(config.batch, 10);
	assert_string_equal(config.group, "a = b");
	assert_string_equal(property("security.protocol"), "SSL");
	assert_string_equal(property("client.rack"), "r1"); /* -F names it more particularly */
	assert_string_equal(property("sasl.mechanism"), "PLAIN");
	assert_string_equal(property("sasl.username"), "c");
	assert_int_equal(config.property_count, 4);

	/* The environment may name the file, and the file the other one. */
	snprintf(args, sizeof args, "kafka-file = %s\n", path_of("kcat.conf"));
	write_file("more.conf", args);
	setenv("CAMPAIGN_CONFIG", path_of("more.conf"), 1);
	assert_int_equal(load(""), 0);
	unsetenv("CAMPAIGN_CONFIG");
	assert_string_equal(property("sasl.username"), "k");
	assert_non_null(strstr(config.properties[2].origin, "kcat.conf:5"));
}

static void test_bad_files(void **state)
{
	static const struct {
		const char *text, *where, *why;
	} cases[] = {
		{ "lanes = 1\nlane = 2\n", "bad.conf:2", "lane" },
		{ "lane = 2\n", "did you mean lanes?", "bad.conf:1" },
		{ "lanes = two\n", "lanes (", "\"two\"" },
		{ "lanes = 1\nlanes = 2\n", "given twice", "bad.conf:1" },
		{ "hunter2\n", "bad.conf:1", "wanted name = value" },
		{ "= hunter2\n", "bad.conf:1", "wanted name = value" },
		{ "sasl.password = hunter2\n", "kafka.", "no such setting" },
		{ "kafka.acks = 1\n", "acks (", "bad.conf:1" },
		{ "config = x\n", "bad.conf:1", "cannot name another" },
	};
	char args[256];

	(void)state;
	snprintf(args, sizeof args, "--config %s", path_of("bad.conf"));
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		write_file("bad.conf", cases[i].text);
		refused(args, cases[i].where, cases[i].why, NULL);
		assert_null(strstr(fault.msg, "hunter2"));
	}
}

static void test_refused_properties(void **state)
{
	static const char *const names[] = {
		"acks", "request.required.acks", "enable.idempotence", "enable.gapless.guarantee", "isolation.level",
		"transactional.id", "enable.auto.commit", "auto.commit.enable", "auto.commit.interval.ms",
		"enable.auto.offset.store", "offset.store.method", "offset.store.path", "auto.offset.reset", "group.id",
		"bootstrap.servers", "metadata.broker.list", "partition.assignment.strategy", "group.protocol",
		"group.protocol.type", "group.remote.assignor", "group.instance.id", "partitioner", "queuing.strategy",
		"max.in.flight", "max.in.flight.requests.per.connection", "retries", "message.send.max.retries",
		"enable.partition.eof", "enabled_events", "delivery.report.only.error", "allow.auto.create.topics", "topic.blacklist",
		"test.mock.num.brokers",
	};
	char args[128];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(args, sizeof args, "-X %s=hunter2", names[i]);
		refused(args, names[i], "(command line): this librdkafka property cannot be set: ", NULL);
		assert_null(strstr(fault.msg, "hunter2"));
	}
}

static void test_secrets_from_files(void **state)
{
	char args[256];

	(void)state;
	write_file("secret", "dbname=campaigns password=hunter2\nsecond line\n");
	write_file("pem", "-----BEGIN-----\nabc\n-----END-----\n");
	snprintf(args, sizeof args, "--database @%s -X ssl.key.pem=@%s -X sasl.password=@@home", path_of("secret"), path_of("pem"));
	assert_int_equal(load(args), 0);
	assert_string_equal(config.database, "dbname=campaigns password=hunter2");
	assert_string_equal(property("ssl.key.pem"), "-----BEGIN-----\nabc\n-----END-----");
	assert_string_equal(property("sasl.password"), "@home");

	refused("-X sasl.password=@hunter2", "sasl.password (command line)", "No such file", "@@", NULL);
	assert_null(strstr(fault.msg, "hunter2"));
	write_file("empty", "\n");
	snprintf(args, sizeof args, "--database @%s", path_of("empty"));
	refused(args, "database (command line)", "empty", NULL);
	refused("--database hunter2\t", "database (command line): the value", NULL);
	assert_null(strstr(fault.msg, "hunter2"));
}

static void test_programs(void **state)
{
	(void)state;
	assert_int_equal(load_as(FOR_PRODUCER, "send --group g --lanes 3 -b x:1"), 0);
	assert_string_equal(config.brokers, "x:1");
	assert_int_equal(argc, 6); /* --group and --lanes are none of the producer's settings */
	assert_string_equal(setting_nearest(FOR_WORKER, "lane"), "lanes");
	assert_string_equal(setting_nearest(FOR_WORKER, "dead-leters"), "dead-letters");
	assert_null(setting_nearest(FOR_PRODUCER, "lane"));
	assert_null(setting_nearest(FOR_WORKER, "follow"));
	config_free(&config);
	config_free(&config);
}

/* What a writer puts on standard output. */
static char *output_of(void (*writer)(void))
{
	static char text[64 * 1024];
	int saved;
	size_t n;
	FILE *file = tmpfile();

	assert_non_null(file);
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	dup2(fileno(file), STDOUT_FILENO);
	writer();
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	rewind(file);
	n = fread(text, 1, sizeof text - 1, file);
	text[n] = '\0';
	fclose(file);
	return text;
}

static void test_example(void **state)
{
	const char *text = output_of(config_print_example);
	char kept[64 * 1024] = "", args[256], *out;
	FILE *file = fopen("deploy/campaign-worker.conf.example", "r");

	(void)state;
	assert_non_null(file);
	kept[fread(kept, 1, sizeof kept - 1, file)] = '\0';
	fclose(file);
	assert_string_equal(kept, text);

	/* With every line in force it says what the defaults say, and can be read. */
	out = kept;
	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		size_t n = strcspn(line, "\n") + 1;
		bool wanted = line[0] == '#' && line[1] != ' ' && !memmem(line, n, "@/etc", 5) && !memmem(line, n, "kafka-file", 10);

		if (wanted)
			out = (char *)memcpy(out, line + 1, n - 1) + n - 1;
	}
	*out = '\0';
	write_file("example.conf", kept);
	snprintf(args, sizeof args, "--config %s", path_of("example.conf"));
	assert_int_equal(load(args), 0);
	assert_int_equal(config.lanes, 1);
	assert_int_equal(config.memory, 32 << 20);
	assert_int_equal(config.batch_bytes, (32 << 20) / 20);
	assert_int_equal(config.property_count, 3);
}

static void print_worker_help(void)
{
	config_print_help(FOR_WORKER);
}

static void test_documentation(void **state)
{
	static const char *const names[] = { "brokers", "group", "instance", "commands", "results", "dead-letters", "database",
		"lanes", "batch", "batch-ms", "memory", "drain-ms", "schemas", "breaker", "lock-timeout-ms", "statement-timeout-ms",
		"audience-leads-max", "dead-letter-bytes", "log-format", "log-level", "config", "kafka-file" };
	char option[64], *text;

	(void)state;
	text = output_of(print_worker_help);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(option, sizeof option, "--%s ", names[i]);
		assert_non_null(strstr(text, option));
	}
	text = output_of(config_print_markdown);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(option, sizeof option, "| `--%s`", names[i]);
		assert_non_null(strstr(text, option));
	}
	assert_non_null(strstr(text, "`CAMPAIGN_DEAD_LETTER_BYTES`"));
	assert_non_null(strstr(text, "| `acks`, `request.required.acks`"));
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	static const char *const names[] = { "kcat.conf", "ours.conf", "more.conf", "bad.conf", "secret", "pem", "empty", "example.conf" };

	(void)state;
	config_free(&config);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		unlink(path_of(names[i]));
	return rmdir(folder);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),	   cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_malformed),	   cmocka_unit_test(test_environment),
		cmocka_unit_test(test_files),		   cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_refused_properties), cmocka_unit_test(test_secrets_from_files),
		cmocka_unit_test(test_programs),	   cmocka_unit_test(test_example),
		cmocka_unit_test(test_documentation),	   cmocka_unit_test(test_values_that_look_like_options),
		cmocka_unit_test(test_service_links),	   cmocka_unit_test(test_options_that_are_values),
		cmocka_unit_test(test_no_setting_looks_like_a_service_link),
		cmocka_unit_test(test_values_that_cannot_work),
	};
	extern char **environ;
	char *name;

	/* Whoever runs the tests may have a CAMPAIGN_... of their own. */
	for (char **variable = environ; *variable;) {
		if (strncmp(*variable, "CAMPAIGN_", 9) != 0) {
			variable++;
			continue;
		}
		name = strndup(*variable, strcspn(*variable, "="));
		unsetenv(name);
		free(name);
	}
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
