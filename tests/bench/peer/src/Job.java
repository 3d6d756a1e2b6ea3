import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** A command on its way through the rules: what was looked up for it, and how it ends (a reason, or a draft). */
final class Job {
	final ConsumerRecord<String, byte[]> record;
	final Command command;
	String traceId; // to answer to: null if there is none
	Reason reason;
	String details;
	Integer retryAfterSeconds;
	Campaign draft;
	boolean draftExisted;
	long processedAt;

	// Rules 2 to 6
	Campaign prior; // a draft of this trace
	byte[] priorDigest;
	boolean priorDeleted;
	String keyPublicId; // null: not known
	boolean keyRevoked, keyMayWrite;
	Grant grant;

	// Rules 8 to 12
	Campaign source;
	String workflow; // of the source, where it passes through here
	String audienceKind; // null: no such audience
	boolean audienceReady;
	int audienceLeadCount; // a hint; 0: unknown, and a folder's
	String populatingList;
	String lists; // of the audience: itself, or a folder's, comma-separated
	final List<String> missing = new ArrayList<>(0); // leads that are not in the audience, in their order
	String targets; // the leads to select: sorted, comma-separated
	int targetCount;
	String busyLead, busyCampaign, busyStatus;
	String newId;

	Job(ConsumerRecord<String, byte[]> record, Command command) {
		this.record = record;
		this.command = command;
	}

	boolean isOpen() {
		return reason == null && draft == null;
	}

	int httpStatus() {
		return draft != null ? 201 : reason.httpStatus;
	}

	void refuse(Reason why, String text) {
		reason = why;
		details = text;
	}

	void accept(Campaign campaign, boolean existed) {
		draft = campaign;
		draftExisted = existed;
	}
}
