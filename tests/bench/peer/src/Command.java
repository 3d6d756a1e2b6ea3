import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.List;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.GenericRecord;

/** A command and the rules that need no database: rule 1, and the digest that makes two commands the same. */
final class Command {
	static final int ID_MAX = 64, NAME_MAX = 255, LEADS_MAX = 10_000;
	private static final ThreadLocal<MessageDigest> SHA256 = ThreadLocal.withInitial(() -> {
		try {
			return MessageDigest.getInstance("SHA-256");
		} catch (NoSuchAlgorithmException e) {
			throw new IllegalStateException(e);
		}
	});

	final String traceId, accountGroupId, campaignId, name, audienceId;
	final byte[] keyDigest; // null: none
	final long issuedAt;
	final Long expiresAt;
	String[] leads; // null: all of the audience; sorted and distinct after check()
	byte[] digest;  // of the command, by check()

	Command(GenericRecord record) {
		traceId = (String) record.get("traceId");
		accountGroupId = (String) record.get("accountGroupId");
		campaignId = (String) record.get("campaignId");
		name = (String) record.get("name");
		audienceId = (String) record.get("audienceId");
		List<?> ids = (List<?>) record.get("leadIds");
		leads = ids == null ? null : ids.toArray(new String[0]);
		GenericFixed key = (GenericFixed) record.get("apiKeyDigest");
		keyDigest = key == null ? null : key.bytes();
		issuedAt = (Long) record.get("issuedAt");
		expiresAt = (Long) record.get("expiresAt");
	}

	static boolean isWellFormed(String id) {
		if (id.isEmpty() || id.length() > ID_MAX || id.startsWith("sk_")) {
			return false;
		}
		for (int i = 0; i < id.length(); i++) {
			char c = id.charAt(i);
			if (!(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c == '_' || c == '-')) {
				return false;
			}
		}
		return true;
	}

	/** What is wrong with a field; null if nothing is. */
	String check() {
		String wrong = firstOf(checkId("traceId", traceId), checkId("accountGroupId", accountGroupId),
				checkId("campaignId", campaignId), checkId("audienceId", audienceId));
		if (wrong == null && name != null) {
			wrong = checkName();
		}
		if (wrong == null && leads != null) {
			wrong = checkLeads();
		}
		if (wrong == null) {
			sortLeads();
			digest = computeDigest();
		}
		return wrong;
	}

	private static String firstOf(String... wrongs) {
		for (String wrong : wrongs) {
			if (wrong != null) {
				return wrong;
			}
		}
		return null;
	}

	private static String checkId(String field, String id) {
		if (isWellFormed(id)) {
			return null;
		}
		if (id.startsWith("sk_")) {
			return field + " is not a well-formed id: it begins with sk_, as an API key does";
		}
		return field + " is not a well-formed id: 1 to " + ID_MAX + " of A-Z a-z 0-9 _ -";
	}

	private String checkName() {
		boolean blank = true;
		int chars = 0;
		for (int i = 0; i < name.length();) {
			int c = name.codePointAt(i);
			i += Character.charCount(c);
			chars++;
			if (c < 0x20 || c >= 0x7f && c <= 0x9f || c == 0x2028 || c == 0x2029) {
				return "name has a control character at character " + chars;
			}
			if (c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069) {
				return "name has a bidirectional-override character at character " + chars;
			}
			if (c >= 0xfdd0 && c <= 0xfdef || (c & 0xfffe) == 0xfffe) {
				return "name has a noncharacter at character " + chars;
			}
			blank = blank && isBlank(c);
			if (chars > NAME_MAX) {
				return "name is too long: 1 to " + NAME_MAX + " characters";
			}
		}
		return !blank ? null
				: "name is " + (chars > 0 ? "blank" : "empty") + ": 1 to " + NAME_MAX + " characters, not only white space";
	}

	private static boolean isBlank(int c) {
		return c == 0x20 || c == 0xa0 || c == 0xad || c == 0x34f || c == 0x61c || c == 0x115f || c == 0x1160 || c == 0x1680
				|| c == 0x17b4 || c == 0x17b5 || c >= 0x180b && c <= 0x180f || c >= 0x2000 && c <= 0x200f
				|| c >= 0x2028 && c <= 0x202f || c >= 0x205f && c <= 0x206f || c == 0x2800 || c == 0x3000 || c == 0x3164
				|| c >= 0xfe00 && c <= 0xfe0f || c == 0xfeff || c == 0xffa0 || c >= 0xfff0 && c <= 0xfff8
				|| c >= 0x1bca0 && c <= 0x1bca3 || c >= 0x1d173 && c <= 0x1d17a || c >= 0xe0000 && c <= 0xe0fff;
	}

	private String checkLeads() {
		if (leads.length == 0) {
			return "leadIds is empty: 1 to " + LEADS_MAX + " ids, or null for all of the audience";
		}
		if (leads.length > LEADS_MAX) {
			return "leadIds has " + leads.length + " ids: at most " + LEADS_MAX;
		}
		for (int i = 0; i < leads.length; i++) {
			if (!isWellFormed(leads[i])) {
				return checkId("leadIds[" + i + "]", leads[i]);
			}
		}
		return null;
	}

	private void sortLeads() {
		if (leads == null) {
			return;
		}
		Arrays.sort(leads);
		int kept = 1;
		for (int i = 1; i < leads.length; i++) {
			if (!leads[i].equals(leads[kept - 1])) {
				leads[kept++] = leads[i];
			}
		}
		if (kept < leads.length) {
			leads = Arrays.copyOf(leads, kept);
		}
	}

	/** The layout is schemas/digest.c's: both workers may meet each other's drafts. */
	private byte[] computeDigest() {
		byte[] nameBytes = name == null ? null : name.getBytes(StandardCharsets.UTF_8);
		int idSize = 4 + ID_MAX, count = leads == null ? 0 : leads.length;
		ByteBuffer bytes = ByteBuffer.allocate(64 + (2 + count) * idSize + (name == null ? 0 : nameBytes.length));
		put(bytes, campaignId.getBytes(StandardCharsets.ISO_8859_1));
		put(bytes, audienceId.getBytes(StandardCharsets.ISO_8859_1));
		putNullable(bytes, nameBytes);
		bytes.put((byte) (leads == null ? 0 : 1));
		if (leads != null) {
			bytes.putInt(count);
			for (String lead : leads) {
				put(bytes, lead.getBytes(StandardCharsets.ISO_8859_1));
			}
		}
		putNullable(bytes, keyDigest);
		MessageDigest sum = SHA256.get();
		sum.update(bytes.flip());
		return sum.digest();
	}

	private static void putNullable(ByteBuffer bytes, byte[] text) {
		bytes.put((byte) (text == null ? 0 : 1));
		if (text != null) {
			put(bytes, text);
		}
	}

	private static void put(ByteBuffer bytes, byte[] text) {
		bytes.putInt(text.length).put(text);
	}
}
