/* Standard streams that are closed or cannot be written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/base/log.h"
#include "worker/base/streams.h"

static char said[256];

/* What a program returns that prints so, with its standard output as given: a file, or NULL for none. */
static int status_of(const char *output, void (*print)(void), int status)
{
	FILE *complaints = tmpfile();
	pid_t pid = fork();
	int end;

	if (pid == 0) {
		int fd = output ? open(output, O_WRONLY) : -1;

		dup2(fileno(complaints), STDERR_FILENO);
		close(STDOUT_FILENO);
		if (fd >= 0)
			dup2(fd, STDOUT_FILENO);
		streams_open();
		print();
		_exit(streams_close("program", status));
	}
	assert_int_equal(waitpid(pid, &end, 0), pid);
	assert_true(WIFEXITED(end));
	rewind(complaints);
	said[fread(said, 1, sizeof said - 1, complaints)] = '\0';
	fclose(complaints);
	return WEXITSTATUS(end);
}

static void print_nothing(void)
{
}

static void print_line(void)
{
	puts("a line");
}

static void print_and_flush(void)
{
	puts("a line");
	if (!streams_flush())
		puts("another line");
}

static void print_much(void)
{
	for (int i = 0; i < 100000; i++)
		puts("a line");
}

static void test_output(void **state)
{
	(void)state;
	assert_int_equal(status_of("/dev/null", print_line, 0), 0);
	assert_string_equal(said, "");
	assert_int_equal(status_of("/dev/null", print_much, 2), 2);
	assert_int_equal(status_of(NULL, print_nothing, 0), 0);
	assert_int_equal(status_of("/dev/full", print_nothing, 0), 0);
	assert_int_equal(status_of("/dev/full", print_line, 0), 1);
	assert_string_equal(said, "program: standard output: No space left on device\n");
	assert_int_equal(status_of("/dev/full", print_and_flush, 0), 1);
	assert_string_equal(said, "program: standard output: No space left on device\n");
	assert_int_equal(status_of("/dev/full", print_much, 3), 3);
	assert_non_null(strstr(said, "program: standard output: "));
	assert_int_equal(status_of(NULL, print_line, 0), 1);
	assert_string_equal(said, "program: standard output: Bad file descriptor\n");
}

/* The next files that are opened must not become the streams; what is read or written there fails. */
static void test_closed_streams(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		char byte;
		int fd;

		for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
			close(fd);
		streams_open();
		log_info("e", "m");
		fd = open("/dev/null", O_RDWR);
		_exit(fd > STDERR_FILENO && log_dropped() == 1 && read(STDIN_FILENO, &byte, 1) == -1 && errno == EBADF &&
		      write(STDOUT_FILENO, "x", 1) == -1 && errno == EBADF ? 0 : 1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_closed_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
