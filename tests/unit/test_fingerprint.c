/* Parsing Canonical Form and CRC-64-AVRO. The expected forms and fingerprints were computed by the reference
 * implementation (org.apache.avro 1.11.3, SchemaNormalization.toParsingForm and parsingFingerprint64); those of the
 * primitive types and of the three named "foo" are the specification's own test vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/duplicate.h"
#include "schemas/fingerprint.h"

static const struct {
	const char *schema, *canonical;
	uint64_t fingerprint;
} vectors[] = {
	{ "\"null\"", "\"null\"", 0x63dd24e7cc258f8a },
	{ "{\"type\": \"boolean\"}", "\"boolean\"", 0x9f42fc78a4d4f764 },
	{ "\"int\"", "\"int\"", 0x7275d51a3f395c8f },
	{ "{\"type\": \"long\", \"logicalType\": \"timestamp-millis\"}", "\"long\"", 0xd054e14493f41db7 },
	{ "\"float\"", "\"float\"", 0x4d7c02cb3ea8d790 },
	{ "{\"type\": \"double\"}", "\"double\"", 0x8e7535c032ab957e },
	{ "{\"type\": \"bytes\", \"logicalType\": \"decimal\", \"precision\": 9, \"scale\": 2}",
	  "\"bytes\"",
	  0x4fc016dac3201965 },
	{ "{\"type\": \"string\"}", "\"string\"", 0x8f014872634503c7 },
	{ "[]", "[]", 0xeec6e173d23fb9d1 },
	{ "{\"fields\":[], \"type\":\"record\", \"name\":\"foo\"}",
	  "{\"name\":\"foo\",\"type\":\"record\",\"fields\":[]}",
	  (uint64_t)INT64_C(-4824392279771201922) },
	{ "{\"type\":\"enum\", \"name\":\"foo\", \"symbols\":[\"A1\"]}",
	  "{\"name\":\"foo\",\"type\":\"enum\",\"symbols\":[\"A1\"]}",
	  (uint64_t)INT64_C(-6342190197741309591) },
	{ "{\"type\":\"fixed\", \"name\":\"foo\", \"size\":15}",
	  "{\"name\":\"foo\",\"type\":\"fixed\",\"size\":15}",
	  (uint64_t)INT64_C(1756455273707447556) },
	{ "[\"null\", {\"type\": \"string\", \"avro.java.string\": \"String\"}]",
	  "[\"null\",\"string\"]",
	  0x9845f21eb77ec49d },
	{ "{\"type\": \"array\", \"items\": {\"type\": \"long\"}}",
	  "{\"type\":\"array\",\"items\":\"long\"}",
	  0x5416c98ba22e5e71 },
	{ "{\"values\": [\"int\", \"null\"], \"type\": \"map\"}",
	  "{\"type\":\"map\",\"values\":[\"int\",\"null\"]}",
	  0xe5db704af47202e6 },
	{ "{\"name\": \"Sha256\", \"size\": 32, \"type\": \"fixed\", \"namespace\": \"campaigns\"}",
	  "{\"name\":\"campaigns.Sha256\",\"type\":\"fixed\",\"size\":32}",
	  0x94cc2eab49c62d18 },
	{ "{\"doc\": \"d\", \"symbols\": [\"A\", \"B_2\"], \"type\": \"enum\", \"name\": \"Kind\", \"default\": \"A\", "
	  "\"aliases\": [\"Sort\"]}",
	  "{\"name\":\"Kind\",\"type\":\"enum\",\"symbols\":[\"A\",\"B_2\"]}",
	  0xb1e44e9cff27cb30 },
	{ "{\"fields\": [], \"type\": \"record\", \"name\": \"Empty\"}",
	  "{\"name\":\"Empty\",\"type\":\"record\",\"fields\":[]}",
	  0x150967a5a2718634 },
	{ "{\"type\": \"record\", \"name\": \"a.b.Dotted\", \"namespace\": \"ignored\", \"fields\": [{\"name\": \"own\", "
	  "\"type\": [\"null\", \"Dotted\"], \"default\": null}]}",
	  "{\"name\":\"a.b.Dotted\",\"type\":\"record\",\"fields\":[{\"name\":\"own\",\"type\":[\"null\",\"a.b.Dotted\"]}]}",
	  0xdce3787e8f54aa05 },
	{ "{\"type\": \"record\", \"name\": \"Outer\", \"namespace\": \"x.y\", \"fields\": [{\"order\": \"ignore\", \"type\": "
	  "{\"type\": \"enum\", \"name\": \"E\", \"symbols\": [\"S\"]}, \"name\": \"one\", \"doc\": \"\\u00e9\"}, {\"name\": "
	  "\"two\", \"type\": \"E\"}, {\"name\": \"three\", \"type\": \"x.y.E\"}, {\"name\": \"four\", \"type\": {\"type\": "
	  "\"record\", \"name\": \"Inner\", \"namespace\": \"z\", \"fields\": [{\"name\": \"f\", \"type\": {\"type\": \"fixed\", "
	  "\"name\": \"F\", \"size\": 4}}, {\"name\": \"g\", \"type\": \"F\"}]}}, {\"name\": \"five\", \"type\": \"z.F\"}]}",
	  "{\"name\":\"x.y.Outer\",\"type\":\"record\",\"fields\":[{\"name\":\"one\",\"type\":{\"name\":\"x.y.E\",\"type\":\"enum\""
	  ",\"symbols\":[\"S\"]}},{\"name\":\"two\",\"type\":\"x.y.E\"},{\"name\":\"three\",\"type\":\"x.y.E\"},{\"name\":\"four\","
	  "\"type\":{\"name\":\"z.Inner\",\"type\":\"record\",\"fields\":[{\"name\":\"f\",\"type\":{\"name\":\"z.F\",\"type\":\"fixe"
	  "d\",\"size\":4}},{\"name\":\"g\",\"type\":\"z.F\"}]}},{\"name\":\"five\",\"type\":\"z.F\"}]}",
	  0x11d55d3aa7af3433 },
	{ "{\"type\": \"record\", \"name\": \"Reset\", \"namespace\": \"x\", \"fields\": [{\"name\": \"top\", \"type\": "
	  "{\"type\": \"record\", \"name\": \"Top\", \"namespace\": \"\", \"fields\": []}}]}",
	  "{\"name\":\"x.Reset\",\"type\":\"record\",\"fields\":[{\"name\":\"top\",\"type\":{\"name\":\"Top\",\"type\":\"record\",\""
	  "fields\":[]}}]}",
	  0x3d704197434fda18 },
	{ "{\"type\": \"record\", \"name\": \"List\", \"fields\": [{\"name\": \"next\", \"type\": [\"null\", \"List\"]}, "
	  "{\"name\": \"all\", \"type\": {\"type\": \"array\", \"items\": {\"type\": \"map\", \"values\": \"List\"}}}]}",
	  "{\"name\":\"List\",\"type\":\"record\",\"fields\":[{\"name\":\"next\",\"type\":[\"null\",\"List\"]},{\"name\":\"all\",\"t"
	  "ype\":{\"type\":\"array\",\"items\":{\"type\":\"map\",\"values\":\"List\"}}}]}",
	  0x3ea1b9f5ec445ae0 },
};

static void matches_the_reference_implementation(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
		struct fault fault = { 0 };
		uint64_t fingerprint;
		char *canonical;

		if (schema_fingerprint(vectors[i].schema, &fingerprint, &canonical, &fault) != 0)
			fail_msg("%s: %s", vectors[i].schema, fault.msg);
		assert_string_equal(canonical, vectors[i].canonical);
		assert_int_equal(fingerprint, vectors[i].fingerprint);
		free(canonical);
	}
}

/* A change of these is another wire format: add the old .avsc to what workers know before anybody writes the new one. */
static void pins_the_built_in_schemas(void **state)
{
	struct fault fault;
	uint64_t fingerprint;

	(void)state;
	assert_int_equal(schema_fingerprint(schema_duplicate_campaign_command, &fingerprint, NULL, &fault), 0);
	assert_int_equal(fingerprint, 0xe4ba16a1cd48c7f6);
	assert_int_equal(schema_fingerprint(schema_duplicate_campaign_result, &fingerprint, NULL, &fault), 0);
	assert_int_equal(fingerprint, 0xa36a691c5fa6f684);
}

static void refuses_what_is_no_schema(void **state)
{
	static const char *const bad[] = {
		"", "{", "1", "null", "[1]", "{}", "{\"type\": 1}", "\"a b\"", "\"a\\\"b\"", "\"\"",
		"{\"type\": \"record\", \"name\": \"r\"}",
		"{\"type\": \"record\", \"fields\": []}",
		"{\"type\": \"record\", \"name\": \"r\", \"fields\": [{\"type\": \"int\"}]}",
		"{\"type\": \"record\", \"name\": \"r\", \"fields\": [{\"name\": \"a.b\", \"type\": \"int\"}]}",
		"{\"type\": \"record\", \"name\": \"r\", \"fields\": [{\"name\": \"a\"}]}",
		"{\"type\": \"record\", \"name\": \"r\", \"namespace\": \"<>\", \"fields\": []}",
		"{\"type\": \"record\", \"name\": \"r\", \"name\": \"s\", \"fields\": []}",
		"{\"type\": \"fixed\", \"name\": \"f\"}",
		"{\"type\": \"fixed\", \"name\": \"f\", \"size\": -1}",
		"{\"type\": \"fixed\", \"name\": \"f\", \"size\": 0}",
		"{\"type\": \"fixed\", \"name\": \"f\", \"size\": 1e3}",
		"{\"type\": \"fixed\", \"name\": \"f\", \"size\": 4611686018427387904}",
		"{\"type\": \"enum\", \"name\": \"e\"}",
		"{\"type\": \"enum\", \"name\": \"e\", \"symbols\": [\"a-b\"]}",
		"{\"type\": \"array\"}", "{\"type\": \"map\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct fault fault = { 0 };
		uint64_t fingerprint;
		char *canonical;

		if (schema_fingerprint(bad[i], &fingerprint, &canonical, &fault) == 0)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(fault.kind, FAULT_FATAL);
		assert_string_not_equal(fault.msg, "");
	}
}

static void refuses_endless_nesting_and_names(void **state)
{
	char text[4096] = "";
	struct fault fault = { 0 };
	uint64_t fingerprint;

	(void)state;
	for (int i = 0; i < 100; i++)
		strcat(text, "{\"type\":\"array\",\"items\":");
	strcat(text, "\"int\"");
	for (int i = 0; i < 100; i++)
		strcat(text, "}");
	assert_int_equal(schema_fingerprint(text, &fingerprint, NULL, &fault), -1);
	assert_non_null(strstr(fault.msg, "deeper"));
	snprintf(text, sizeof text, "\"%02000d\"", 0);
	assert_int_equal(schema_fingerprint(text, &fingerprint, NULL, &fault), -1);
	assert_non_null(strstr(fault.msg, "too long"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_the_reference_implementation),
		cmocka_unit_test(pins_the_built_in_schemas),
		cmocka_unit_test(refuses_what_is_no_schema),
		cmocka_unit_test(refuses_endless_nesting_and_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
