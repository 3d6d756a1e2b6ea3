import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A publisher and a subscriber as a Java team would write them: Apache's clients with their defaults (partitioner
 * included), Avro's generic records, Avro's own single-object encoding.
 *
 *   Interop write BROKERS TOPIC SCHEMA           commands as JSON lines on stdin; prints where each one went
 *   Interop read BROKERS TOPIC SCHEMA N SECONDS  waits for N records (read_committed), prints them as JSON lines
 */
public class Interop {
	static final ObjectMapper JSON = new ObjectMapper();

	public static void main(String[] args) throws Exception {
		Schema schema = new Schema.Parser().parse(new File(args[3]));
		switch (args[0]) {
		case "write" -> write(args[1], args[2], schema);
		case "read" -> read(args[1], args[2], schema, Integer.parseInt(args[4]), Integer.parseInt(args[5]));
		default -> throw new IllegalArgumentException(args[0]);
		}
	}

	static void write(String brokers, String topic, Schema schema) throws Exception {
		BinaryMessageEncoder<GenericRecord> encoder = new BinaryMessageEncoder<>(GenericData.get(), schema);
		BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
		List<Future<RecordMetadata>> sent = new ArrayList<>();
		try (KafkaProducer<String, byte[]> producer =
				new KafkaProducer<>(Map.of("bootstrap.servers", brokers), new StringSerializer(), new ByteArraySerializer())) {
			for (String line; (line = in.readLine()) != null;) {
				GenericRecord command = (GenericRecord) fromJson(JSON.readTree(line), schema);
				ByteBuffer bytes = encoder.encode(command);
				byte[] value = new byte[bytes.remaining()];
				bytes.get(value);
				sent.add(producer.send(new ProducerRecord<>(topic, command.get("accountGroupId").toString(), value)));
			}
			for (Future<RecordMetadata> one : sent) {
				ObjectNode place = JSON.createObjectNode();
				place.put("partition", one.get().partition()).put("offset", one.get().offset());
				System.out.println(place);
			}
		}
	}

	static void read(String brokers, String topic, Schema schema, int wanted, int seconds) throws Exception {
		BinaryMessageDecoder<GenericRecord> decoder = new BinaryMessageDecoder<>(GenericData.get(), schema);
		Map<String, Object> settings = new HashMap<>();
		settings.put("bootstrap.servers", brokers);
		settings.put("isolation.level", "read_committed");
		settings.put("auto.offset.reset", "earliest");
		long deadline = System.nanoTime() + seconds * 1_000_000_000L;
		try (KafkaConsumer<String, byte[]> consumer =
				new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
			List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
					.map(p -> new TopicPartition(topic, p.partition())).collect(Collectors.toList());
			consumer.assign(partitions);
			consumer.seekToBeginning(partitions);
			int seen = 0;
			while (seen < wanted) {
				if (System.nanoTime() > deadline) {
					throw new IllegalStateException(seen + " of " + wanted + " records within " + seconds + " s");
				}
				for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(200))) {
					System.out.println(describe(record, decoder.decode(record.value())));
					seen++;
				}
			}
		}
	}

	static ObjectNode describe(ConsumerRecord<String, byte[]> record, GenericRecord value) {
		ObjectNode line = JSON.createObjectNode();
		line.put("key", record.key()).put("partition", record.partition()).put("offset", record.offset());
		ObjectNode headers = line.putObject("headers");
		for (Header header : record.headers()) {
			headers.put(header.key(), new String(header.value(), StandardCharsets.UTF_8));
		}
		line.set("value", toJson(value));
		return line;
	}

	/** Bytes and fixed as hex digits; absent fields get the schema's default. */
	static Object fromJson(JsonNode node, Schema schema) {
		switch (schema.getType()) {
		case RECORD:
			GenericRecord record = new GenericData.Record(schema);
			for (Schema.Field field : schema.getFields()) {
				JsonNode value = node.get(field.name());
				record.put(field.pos(), value != null ? fromJson(value, field.schema()) : GenericData.get().getDefaultValue(field));
			}
			return record;
		case UNION:
			return node.isNull() ? null : fromJson(node, schema.getTypes().get(1));
		case ARRAY:
			List<Object> items = new ArrayList<>();
			node.forEach(item -> items.add(fromJson(item, schema.getElementType())));
			return items;
		case FIXED:
			return new GenericData.Fixed(schema, HexFormat.of().parseHex(node.textValue()));
		case LONG:
			return node.longValue();
		case STRING:
			return node.textValue();
		default:
			throw new IllegalArgumentException("no commands with " + schema.getType());
		}
	}

	static JsonNode toJson(Object value) {
		if (value instanceof GenericRecord) {
			ObjectNode object = JSON.createObjectNode();
			GenericRecord record = (GenericRecord) value;
			record.getSchema().getFields().forEach(field -> object.set(field.name(), toJson(record.get(field.pos()))));
			return object;
		}
		if (value instanceof Collection) {
			var array = JSON.createArrayNode();
			((Collection<?>) value).forEach(item -> array.add(toJson(item)));
			return array;
		}
		if (value instanceof GenericFixed) {
			return JSON.valueToTree(HexFormat.of().formatHex(((GenericFixed) value).bytes()));
		}
		return JSON.valueToTree(value instanceof CharSequence ? value.toString() : value);
	}
}
