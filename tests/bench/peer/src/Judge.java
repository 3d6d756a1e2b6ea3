import java.sql.SQLException;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/** Rules 2 to 12 in their order, in one transaction. What a command was refused for is not looked up any further. */
final class Judge {
	static final int AUDIENCE_LEADS_MAX = 50_000, MISSING_SHOWN = 5;
	private static final HexFormat HEX = HexFormat.of();
	private static final DateTimeFormatter TIME =
			DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);

	private final Store store;

	Judge(Store store) {
		this.store = store;
	}

	/** The jobs have passed rule 1; no two are of one (account group, trace). */
	void run(List<Job> jobs) throws SQLException {
		store.lockGrants(jobs);
		long nowMs = store.identify(jobs);
		for (Job job : jobs) {
			job.processedAt = nowMs;
			identify(job, nowMs);
		}
		List<Job> open = open(jobs);
		store.findTargets(open);
		open.forEach(Judge::findTargets);
		open = open(open);
		selectLeads(open);
		open = open(open);
		store.findBusy(open);
		open.forEach(job -> refuseBusy(job, nowMs));
		open = open(open);
		store.insert(open, nowMs);
		store.charge(jobs);
		store.commit();
		open.forEach(job -> job.accept(draftOf(job, nowMs), false));
	}

	private static List<Job> open(List<Job> jobs) {
		return where(jobs, Job::isOpen);
	}

	private static List<Job> where(List<Job> jobs, Predicate<Job> condition) {
		return jobs.stream().filter(condition).collect(Collectors.toList());
	}

	/** Rules 2 to 7. */
	private static void identify(Job job, long nowMs) {
		Command command = job.command;
		if (job.prior != null && Arrays.equals(job.priorDigest, command.digest)) {
			if (job.priorDeleted) {
				job.refuse(Reason.DRAFT_DELETED, "the draft of traceId " + command.traceId + " has been deleted");
			} else {
				job.accept(job.prior, true);
			}
		} else if (command.expiresAt != null && command.expiresAt <= nowMs) {
			job.refuse(Reason.EXPIRED, "expiresAt " + TIME.format(Instant.ofEpochMilli(command.expiresAt)) + " had passed");
		} else if (command.keyDigest == null) {
			job.refuse(Reason.KEY_MISSING, "apiKeyDigest is missing");
		} else if (job.keyPublicId == null) {
			job.refuse(Reason.KEY_UNKNOWN, "no API key has this apiKeyDigest");
		} else if (job.keyRevoked) {
			job.refuse(Reason.KEY_REVOKED, "API key " + job.keyPublicId + " has been revoked");
		} else if (!job.keyMayWrite) {
			job.refuse(Reason.PERMISSION_MISSING, "API key " + job.keyPublicId + " lacks campaigns:write");
		} else if (job.grant == null) {
			job.refuse(Reason.ACCOUNT_GROUP_DENIED,
					"API key " + job.keyPublicId + " has no access to account group " + command.accountGroupId);
		} else if (job.prior != null) {
			job.refuse(Reason.TRACE_REUSED, "traceId " + command.traceId + " belongs to another command");
		} else {
			rate(job, nowMs);
		}
	}

	private static void rate(Job job, long nowMs) {
		long stamp = job.record.timestamp();
		Grant grant = job.grant;
		if (!grant.admit((stamp >= 0 && stamp <= nowMs ? stamp : nowMs) * 1000)) {
			job.retryAfterSeconds = grant.retryAfterSeconds(nowMs);
			job.refuse(Reason.RATE_LIMITED, "rate limit of " + grant.describeRate() + ", burst " + grant.burst + "; retry after "
					+ job.retryAfterSeconds + " s");
		}
	}

	/** Rules 8 and 9. */
	private static void findTargets(Job job) {
		Command command = job.command;
		if (job.source == null) {
			job.refuse(Reason.CAMPAIGN_NOT_FOUND,
					"no campaign " + command.campaignId + " in account group " + command.accountGroupId);
		} else if (job.audienceKind == null) {
			job.refuse(Reason.AUDIENCE_NOT_FOUND,
					"no audience " + command.audienceId + " in account group " + command.accountGroupId);
		} else if (job.populatingList != null) {
			job.refuse(Reason.AUDIENCE_POPULATING,
					"list " + job.populatingList + " of audience " + command.audienceId + " is still being populated");
		} else if (!job.audienceReady) {
			job.refuse(Reason.AUDIENCE_POPULATING, "audience " + command.audienceId + " is still being populated");
		}
	}

	/** Rule 10. */
	private void selectLeads(List<Job> jobs) throws SQLException {
		List<Job> given = where(jobs, job -> job.command.leads != null);
		for (Job job : given) {
			job.targets = String.join(",", job.command.leads);
			job.targetCount = job.command.leads.length;
		}
		store.findMissing(given);
		store.readMembers(where(jobs, job -> job.command.leads == null), AUDIENCE_LEADS_MAX + 1);
		for (Job job : jobs) {
			if (!job.missing.isEmpty()) {
				job.refuse(Reason.LEAD_NOT_IN_AUDIENCE,
						"leadIds not in audience " + job.command.audienceId + ": " + describeMissing(job.missing));
			} else if (job.command.leads == null && job.targetCount > AUDIENCE_LEADS_MAX) {
				job.refuse(Reason.AUDIENCE_TOO_LARGE, "audience " + job.command.audienceId + " has more than " + AUDIENCE_LEADS_MAX
						+ " leads; name the leads in leadIds");
			}
		}
	}

	/** "a, b and c", "a, b, c, d, e and 3 more" */
	private static String describeMissing(List<String> missing) {
		int shown = Math.min(missing.size(), MISSING_SHOWN), more = missing.size() - shown;
		if (more > 0) {
			return String.join(", ", missing.subList(0, shown)) + " and " + more + " more";
		}
		String first = String.join(", ", missing.subList(0, shown - 1));
		return first.isEmpty() ? missing.get(0) : first + " and " + missing.get(shown - 1);
	}

	/** Rule 11. */
	private static void refuseBusy(Job job, long nowMs) {
		if (job.busyLead != null) {
			job.refuse(Reason.LEAD_ACTIVE,
					"lead " + job.busyLead + " is enrolled in campaign " + job.busyCampaign + " (" + job.busyStatus + ")");
		} else {
			job.newId = HEX.toHexDigits((int) (nowMs / 1000)) + HEX.toHexDigits(ThreadLocalRandom.current().nextLong());
		}
	}

	private static Campaign draftOf(Job job, long nowMs) {
		Campaign source = job.source;
		String name = job.command.name != null ? job.command.name : source.name();
		return new Campaign(job.newId, name, source.description(), "draft", job.targetCount, source.includeConversationHistory(),
				source.autoCancelOnMessageReceived(), source.outreachLanguage(), nowMs, nowMs, null, null);
	}
}
