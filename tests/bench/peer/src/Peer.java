import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The benchmark's comparison: the worker that a good Java team would write for the same commands, rules, tables and results.
 * MODE=rows, what a good team writes: up to BATCH commands in one PostgreSQL transaction and one Kafka transaction, looked up
 * by joins, checked in Java, written as a JDBC batch.
 * MODE=sets: the same with what was learnt while the worker was written, its ways of looking up and copying inside the server.
 * MODE=single, the usual one: a PostgreSQL transaction a command, one Kafka transaction for what a poll brought.
 *
 * It does less than campaign-worker, which is to its favour: no fence against a paused predecessor, no taking over of what
 * a dead one left pending, no dead letters, no trace context carried on, no answer to bytes that do not decode, no retry.
 * Whatever goes wrong, it exits, and what was not published is delivered again. Its memory is bounded by BATCH alone: whole
 * audiences of 20,000 leads want a BATCH of 20.
 */
public final class Peer {
	private static volatile boolean stopping, stopped;

	private final String commands = setting("COMMANDS"), results = setting("RESULTS");
	private final int batch = Integer.parseInt(System.getenv().getOrDefault("BATCH", "500"));
	private final String mode = System.getenv().getOrDefault("MODE", "rows");
	private final Codec codec = new Codec();
	private final Judge judge;
	private long commandCount, batchCount;

	private Peer() throws SQLException {
		String url = setting("JDBC_URL"), user = setting("PGUSER"), password = System.getenv("PGPASSWORD");
		judge = new Judge(switch (mode) {
			case "single" -> new SingleStore(url, user, password);
			case "rows" -> new RowStore(url, user, password);
			case "sets" -> new SetStore(url, user, password);
			default -> throw new IllegalArgumentException("no such MODE: " + mode);
		});
	}

	public static void main(String[] args) throws Exception {
		Thread main = Thread.currentThread();
		Runtime.getRuntime().addShutdownHook(new Thread(() -> {
			stopping = true;
			try {
				main.join();
			} catch (InterruptedException e) {
				Thread.currentThread().interrupt();
			}
			if (stopped) {
				Runtime.getRuntime().halt(0); // SIGTERM's own exit status would be 143
			}
		}));
		new Peer().run();
		stopped = true;
	}

	private static String setting(String name) {
		String value = System.getenv(name);
		if (value == null) {
			throw new IllegalArgumentException(name + " is not set");
		}
		return value;
	}

	private void run() throws Exception {
		try (KafkaConsumer<String, byte[]> consumer = newConsumer(); KafkaProducer<String, byte[]> producer = newProducer()) {
			producer.initTransactions();
			consumer.subscribe(List.of(commands), new Announcer());
			while (!stopping) {
				ConsumerRecords<String, byte[]> records = consumer.poll(Duration.ofMillis(100));
				if (!records.isEmpty()) {
					List<Job> jobs = decode(records);
					execute(jobs);
					publish(consumer, producer, records, jobs);
				}
			}
		}
		System.out.printf("{\"commands\": %d, \"batches\": %d}%n", commandCount, batchCount);
	}

	private KafkaConsumer<String, byte[]> newConsumer() {
		Map<String, Object> settings = new HashMap<>();
		settings.put("bootstrap.servers", setting("BROKERS"));
		settings.put("group.id", setting("GROUP"));
		settings.put("client.id", "peer-" + setting("INSTANCE"));
		settings.put("enable.auto.commit", false);
		settings.put("isolation.level", "read_committed");
		settings.put("auto.offset.reset", "earliest");
		settings.put("max.poll.records", batch);
		return new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
	}

	private KafkaProducer<String, byte[]> newProducer() {
		Map<String, Object> settings = new HashMap<>();
		settings.put("bootstrap.servers", setting("BROKERS"));
		settings.put("transactional.id", setting("GROUP") + "." + setting("INSTANCE"));
		settings.put("client.id", "peer-" + setting("INSTANCE"));
		settings.put("linger.ms", 0);
		settings.put("retry.backoff.ms", 5);
		settings.put("compression.type", "zstd");
		settings.put("compression.zstd.level", 1); // as the worker's
		return new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer());
	}

	private static final class Announcer implements ConsumerRebalanceListener {
		@Override
		public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
			System.err.println("ready");
		}

		@Override
		public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
			/* between two batches: there is nothing in hand */
		}
	}

	private List<Job> decode(ConsumerRecords<String, byte[]> records) throws IOException {
		List<Job> jobs = new ArrayList<>(records.count());
		for (ConsumerRecord<String, byte[]> record : records) {
			Job job = new Job(record, codec.decode(record.value()));
			job.traceId = Command.isWellFormed(job.command.traceId) ? job.command.traceId : headerTraceId(record);
			if (!job.command.accountGroupId.equals(record.key())) {
				job.refuse(Reason.KEY_MISMATCH, "the record key is not the command's accountGroupId");
			} else {
				String wrong = job.command.check();
				if (wrong != null) {
					job.refuse(Reason.INVALID_FIELD, wrong);
				}
			}
			jobs.add(job);
		}
		return jobs;
	}

	private static String headerTraceId(ConsumerRecord<String, byte[]> record) {
		Header header = record.headers().lastHeader("traceId");
		String id = header == null ? "" : new String(header.value(), StandardCharsets.UTF_8);
		return Command.isWellFormed(id) ? id : null;
	}

	private record Trace(String accountGroupId, String traceId) {
	}

	/** A second command of a trace has to find what the first one wrote. */
	private void execute(List<Job> jobs) throws SQLException {
		int size = mode.equals("single") ? 1 : batch;
		List<Job> part = new ArrayList<>(size);
		Set<Trace> traces = new HashSet<>();
		for (Job job : jobs) {
			if (job.reason != null) {
				job.processedAt = System.currentTimeMillis();
				continue;
			}
			boolean isNew = traces.add(new Trace(job.command.accountGroupId, job.command.traceId));
			if (!isNew || part.size() == size) {
				judge.run(part);
				part.clear();
				traces.clear();
				traces.add(new Trace(job.command.accountGroupId, job.command.traceId));
			}
			part.add(job);
		}
		if (!part.isEmpty()) {
			judge.run(part);
		}
	}

	private void publish(KafkaConsumer<String, byte[]> consumer, KafkaProducer<String, byte[]> producer,
			ConsumerRecords<String, byte[]> records, List<Job> jobs) throws IOException {
		producer.beginTransaction();
		for (Job job : jobs) {
			if (job.traceId != null) {
				producer.send(resultOf(job));
			}
		}
		Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
		for (TopicPartition partition : records.partitions()) {
			List<ConsumerRecord<String, byte[]>> own = records.records(partition);
			offsets.put(partition, new OffsetAndMetadata(own.get(own.size() - 1).offset() + 1));
		}
		producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
		producer.commitTransaction();
		commandCount += jobs.size();
		batchCount++;
	}

	private ProducerRecord<String, byte[]> resultOf(Job job) throws IOException {
		ProducerRecord<String, byte[]> record = new ProducerRecord<>(results, job.traceId, codec.encode(job));
		record.headers().add("httpStatus", bytes(Integer.toString(job.httpStatus())));
		if (job.draft == null) {
			record.headers().add("code", bytes(job.reason.code));
		}
		if (Command.isWellFormed(job.command.accountGroupId)) {
			record.headers().add("accountGroupId", bytes(job.command.accountGroupId));
		}
		return record;
	}

	private static byte[] bytes(String text) {
		return text.getBytes(StandardCharsets.UTF_8);
	}
}
