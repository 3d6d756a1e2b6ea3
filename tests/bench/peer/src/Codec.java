import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DatumReader;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.message.BinaryMessageEncoder;

/** Commands and results in Avro's single-object encoding, by the schemas of schemas/avro. */
final class Codec {
	private final GenericData model = new GenericData();
	private final Schema result = load("duplicate-campaign-result.avsc");
	private final Schema data = result.getField("data").schema().getTypes().get(1);
	private final Schema error = result.getField("error").schema().getTypes().get(1);
	private final Schema position = result.getField("command").schema();
	private final DatumReader<GenericRecord> reader;
	private final byte[] marker; // what a command begins with
	private BinaryDecoder decoder; // reused; Avro's own BinaryMessageDecoder reads byte by byte
	private final BinaryMessageEncoder<GenericRecord> encoder = new BinaryMessageEncoder<>(model, result);

	Codec() {
		model.setFastReaderEnabled(true);
		Schema command = load("duplicate-campaign-command.avsc");
		@SuppressWarnings("unchecked")
		DatumReader<GenericRecord> generic = model.createDatumReader(command);
		reader = generic;
		marker = ByteBuffer.allocate(10).order(ByteOrder.LITTLE_ENDIAN).put((byte) 0xC3).put((byte) 0x01)
				.putLong(SchemaNormalization.parsingFingerprint64(command)).array();
	}

	/** Texts become java.lang.String at once, without a Utf8 between. Neither bytes nor fingerprint change. */
	private static Schema load(String name) {
		try (InputStream in = Codec.class.getResourceAsStream("/" + name)) {
			String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
			return new Schema.Parser().parse(text.replace("\"string\"", "{\"type\": \"string\", \"avro.java.string\": \"String\"}"));
		} catch (IOException e) {
			throw new UncheckedIOException(e);
		}
	}

	Command decode(byte[] bytes) throws IOException {
		if (bytes.length < marker.length || !Arrays.equals(bytes, 0, marker.length, marker, 0, marker.length)) {
			throw new IOException("a record that is not in single-object encoding of the command's schema");
		}
		decoder = DecoderFactory.get().binaryDecoder(bytes, marker.length, bytes.length - marker.length, decoder);
		return new Command(reader.read(null, decoder));
	}

	byte[] encode(Job job) throws IOException {
		Command command = job.command;
		GenericRecord record = new GenericData.Record(result);
		record.put("traceId", job.traceId);
		record.put("success", job.draft != null);
		record.put("data", job.draft == null ? null : dataOf(job.draft));
		record.put("error", job.draft != null ? null : errorOf(job));
		record.put("httpStatus", job.httpStatus());
		record.put("reason", job.draft != null ? null : job.reason.word);
		record.put("retryable", job.draft == null && job.reason.retryable());
		record.put("retryAfterSeconds", job.retryAfterSeconds);
		record.put("accountGroupId", wellFormed(command.accountGroupId));
		record.put("sourceCampaignId", wellFormed(command.campaignId));
		record.put("audienceId", wellFormed(command.audienceId));
		record.put("draftExisted", job.draftExisted);
		record.put("command", positionOf(job));
		record.put("issuedAt", command.issuedAt);
		record.put("processedAt", job.processedAt);
		ByteBuffer bytes = encoder.encode(record);
		byte[] value = new byte[bytes.remaining()];
		bytes.get(value);
		return value;
	}

	private GenericRecord dataOf(Campaign campaign) {
		GenericRecord record = new GenericData.Record(data);
		record.put("id", campaign.id());
		record.put("name", campaign.name());
		record.put("description", campaign.description());
		record.put("status", campaign.status());
		record.put("selectedLeadCount", campaign.selectedLeadCount());
		record.put("includeConversationHistory", campaign.includeConversationHistory());
		record.put("autoCancelOnMessageReceived", campaign.autoCancelOnMessageReceived());
		record.put("outreachLanguage", campaign.outreachLanguage());
		record.put("createdAt", campaign.createdAt());
		record.put("updatedAt", campaign.updatedAt());
		record.put("startedAt", campaign.startedAt());
		record.put("rateLimitedUntil", campaign.rateLimitedUntil());
		return record;
	}

	private GenericRecord errorOf(Job job) {
		GenericRecord record = new GenericData.Record(error);
		record.put("code", job.reason.code);
		record.put("message", job.reason.message);
		record.put("details", job.details);
		return record;
	}

	private GenericRecord positionOf(Job job) {
		GenericRecord record = new GenericData.Record(position);
		record.put("topic", job.record.topic());
		record.put("partition", job.record.partition());
		record.put("offset", job.record.offset());
		record.put("timestamp", job.record.timestamp());
		return record;
	}

	private static String wellFormed(String id) {
		return Command.isWellFormed(id) ? id : null;
	}
}
