// schemas/asyncapi.yaml: valid by AsyncAPI's own parser, and true of the schemas, the examples and the sources beside it.
// validate.mjs TREE. Speaks TAP; exits 1 if anything fails.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Parser, fromFile } from '@asyncapi/parser';
import { AvroSchemaParser } from '@asyncapi/avro-schema-parser';

const tree = process.argv[2];
const text = (path) => readFileSync(join(tree, path), 'utf8');
const avsc = (name) => JSON.parse(text(`schemas/avro/duplicate-campaign-${name}.avsc`));
let passed = 0, failed = 0;

function check(name, findings) {
	if (findings.length === 0) passed++;
	else failed++;
	console.log(`${findings.length === 0 ? 'ok' : 'not ok'} ${passed + failed} - ${name}`);
	for (const finding of findings) console.log(`# ${finding}`);
}

function finish() {
	console.log(`1..${passed + failed}`);
	console.log(`# ${passed} passed, ${failed} failed`);
	process.exit(failed === 0 ? 0 : 1);
}

const differ = (what, got, wanted) =>
	isDeepStrictEqual(got, wanted) ? [] : [`${what}: ${JSON.stringify(got)}, wanted ${JSON.stringify(wanted)}`];

// --- the document ---

const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const { document, diagnostics } = await fromFile(parser, join(tree, 'schemas/asyncapi.yaml')).parse();
const ERROR = 0;
check('the document is valid', diagnostics.filter((d) => d.severity === ERROR)
	.map((d) => `${d.path.join('.')}: ${d.message} (${d.code})`));
if (document === undefined) finish();

const message = (id) => document.allMessages().all().find((m) => m.id() === id);
const headersOf = (id) => Object.keys(message(id).headers().properties() ?? {});

for (const [id, name] of [['command', 'command'], ['result', 'result']]) {
	const payload = message(id).payload().json();
	const original = payload['x-parser-original-payload'];
	check(`the payload of message ${id} is the Avro schema`, [
		...differ('schema', original?.schema ?? original, avsc(name)),
		...differ('fields', Object.keys((payload.schema ?? payload).properties), avsc(name).fields.map((field) => field.name)),
	]);
}

const operations = document.operations().all().map((o) => [o.action(), o.channels().all().map((c) => c.id()).join()]);
check('the worker receives commands, and sends results and dead letters',
	differ('operations', operations, [['receive', 'commands'], ['send', 'results'], ['send', 'deadLetters']]));

// --- the sources ---

const setting = (name) => text('worker/base/settings.c').match(new RegExp(`\\{ "${name}", 0, SETTING_TOPIC, [^"]*"TOPIC", "([^"]*)"`))?.[1];
check("addresses are the settings' defaults", [['commands', 'commands'], ['results', 'results'], ['deadLetters', 'dead-letters']]
	.flatMap(([id, name]) => differ(id, document.channels().get(id).address(), setting(name))));

const named = (file, pattern) => [...text(file).matchAll(pattern)].map((match) => match[1]);
const written = [
	...named('worker/kafka/message.c', /add_header\(message, headers, "([^"]+)"/g),
	...named('schemas/headers.c', /find_last\(record, "([^"]+)"/g),
	...named('schemas/dead_letter.c', /\{ SPRING "([^"]+)", [A-Z]/g).map((name) => `kafka_dlt-${name}`),
	...named('schemas/dead_letter.c', /\{ OURS "([^"]+)", [A-Z]/g).map((name) => `campaign-dlt-${name}`),
];
check('every header that the worker writes is documented, and no other', differ('headers',
	[...new Set([...headersOf('result'), ...headersOf('deadLetter')])].sort(), [...new Set(written)].sort()));
check('every header that the producer writes is documented, and no other', differ('headers', headersOf('command').sort(),
	named('producer/publishing.c', /rd_kafka_header_add\(headers, "([^"]+)"/g).sort()));

// --- the examples: events are the result schema as JSON, all keys, in its order ---

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const scalars = {
	null: (value) => value === null,
	string: (value) => typeof value === 'string',
	boolean: (value) => typeof value === 'boolean',
	int: (value) => Number.isInteger(value) && Math.abs(value) < 2 ** 31,
	long: (value) => Number.isInteger(value),
};

function mismatches(value, type, path) {
	if (Array.isArray(type)) {
		const tries = type.map((branch) => mismatches(value, branch, path));
		return tries.find((found) => found.length === 0) ?? tries.at(-1);
	}
	if (type.logicalType === 'timestamp-millis') return TIME.test(value) ? [] : [`${path}: ${value} is no time`];
	if (type.type !== 'record') return scalars[type.type ?? type](value) ? [] : [`${path}: ${value} is no ${type.type ?? type}`];
	if (value === null || typeof value !== 'object') return [`${path}: ${value} is no ${type.name}`];
	const keys = differ(path, Object.keys(value), type.fields.map((field) => field.name));
	return keys.length > 0 ? keys : type.fields.flatMap((field) => mismatches(value[field.name], field.type, `${path}.${field.name}`));
}

function example(name) {
	const event = JSON.parse(text(`schemas/examples/${name}.result.json`));
	const response = text(`schemas/examples/${name}.response.http`);
	const [head, body] = response.split('\r\n\r\n');
	const { success, data, error, traceId } = event;
	const length = head.match(/^Content-Length: (\d+)$/m)?.[1], after = head.match(/^Retry-After: (\d+)$/m)?.[1];
	return [
		...mismatches(event, avsc('result'), 'event'),
		...differ('body', body, JSON.stringify({ success, data, error, traceId })),
		...differ('status', head.match(/^HTTP\/1\.1 (\d{3}) \S/)?.[1], String(event.httpStatus)),
		...differ('Content-Length', length, String(Buffer.byteLength(body))),
		...differ('Retry-After', after ?? null, event.retryAfterSeconds === null ? null : String(event.retryAfterSeconds)),
	];
}

const names = readdirSync(join(tree, 'schemas/examples')).filter((file) => file.endsWith('.result.json'))
	.map((file) => file.slice(0, -'.result.json'.length)).sort();
check('there are examples', names.length > 0 ? [] : ['none']);
for (const name of names) check(`example ${name}`, example(name));
finish();
