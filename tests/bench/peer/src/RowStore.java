import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Batches as they are usually written on JDBC: what commands name is looked up by joins, a row a lead; sources are read with
 * all that is to be copied, and drafts written as one JDBC batch, which the driver turns into INSERTs of many rows.
 */
final class RowStore extends SetStore {
	private final PreparedStatement sources, members, busy, insert;

	RowStore(String url, String user, String password) throws SQLException {
		super(url, user, password);
		sources = prepare("SELECT c.n, " + SOURCE + ", " + AUDIENCE + """
				, s.workflow
				FROM unnest(?::text[], ?::text[], ?::text[]) WITH ORDINALITY AS c (ag, source, audience, n)
				LEFT JOIN campaigns AS s ON s.account_group_id = c.ag AND s.id = c.source AND s.deleted_at IS NULL
				LEFT JOIN audiences AS a ON a.account_group_id = c.ag AND a.id = c.audience""");
		members = prepare("""
				SELECT c.n, m.lead_id
				FROM unnest(?::int[], ?::text[], ?::text[], ?::text[]) AS c (n, ag, list, lead)
				JOIN audience_leads AS m ON m.account_group_id = c.ag AND m.audience_id = c.list AND m.lead_id = c.lead""");
		/* OFFSET 0: left to itself, the planner begins with the account group's active campaigns, once a lead. */
		busy = prepare("""
				SELECT c.n, e.lead_id, e.campaign_id, a.status
				FROM unnest(?::int[], ?::text[], ?::text[]) AS c (n, ag, lead)
				CROSS JOIN LATERAL (SELECT e.lead_id, e.campaign_id FROM campaign_leads AS e
					WHERE e.account_group_id = c.ag AND e.lead_id = c.lead AND e.state = 'enrolled' OFFSET 0) AS e
				JOIN campaigns AS a ON a.account_group_id = c.ag AND a.id = e.campaign_id
					AND a.status IN ('running', 'paused') AND a.deleted_at IS NULL
				ORDER BY c.n, e.lead_id, e.campaign_id""");
		insert = prepare("INSERT INTO campaigns (" + DRAFT + """
				) VALUES (?, ?, ?, ?, 'draft', ?, ?::text[], ?, ?, ?, ?::jsonb, ?, ?, ?, ?, to_timestamp(?::float8 / 1000),
					to_timestamp(?::float8 / 1000))""");
	}

	@Override
	void findTargets(List<Job> jobs) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		setTexts(sources, 1, jobs, job -> job.command.accountGroupId);
		setTexts(sources, 2, jobs, job -> job.command.campaignId);
		setTexts(sources, 3, jobs, job -> job.command.audienceId);
		try (ResultSet rows = sources.executeQuery()) {
			while (rows.next()) {
				Job job = jobs.get(rows.getInt(1) - 1);
				readSource(job, rows, 2);
				readAudience(job, rows, 8);
				job.workflow = rows.getString(11);
			}
		}
		findLists(jobs);
	}

	@Override
	void findMissing(List<Job> jobs) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		Leads asked = new Leads();
		for (int n = 0; n < jobs.size(); n++) {
			Job job = jobs.get(n);
			for (String list : split(job.lists)) {
				for (String lead : job.command.leads) {
					asked.add(n, job, list, lead);
				}
			}
		}
		List<Set<String>> found = new ArrayList<>(jobs.size());
		jobs.forEach(job -> found.add(new HashSet<>(2 * job.command.leads.length)));
		set(members, 1, "int4", asked.numbers.toArray());
		set(members, 2, "text", asked.accountGroups.toArray(String[]::new));
		set(members, 3, "text", asked.lists.toArray(String[]::new));
		set(members, 4, "text", asked.leads.toArray(String[]::new));
		try (ResultSet rows = members.executeQuery()) {
			while (rows.next()) {
				found.get(rows.getInt(1)).add(rows.getString(2));
			}
		}
		for (int n = 0; n < jobs.size(); n++) {
			for (String lead : jobs.get(n).command.leads) {
				if (!found.get(n).contains(lead)) {
					jobs.get(n).missing.add(lead);
				}
			}
		}
	}

	@Override
	void findBusy(List<Job> jobs) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		Leads asked = new Leads();
		for (int n = 0; n < jobs.size(); n++) {
			for (String lead : split(jobs.get(n).targets)) {
				asked.add(n, jobs.get(n), null, lead);
			}
		}
		set(busy, 1, "int4", asked.numbers.toArray());
		set(busy, 2, "text", asked.accountGroups.toArray(String[]::new));
		set(busy, 3, "text", asked.leads.toArray(String[]::new));
		try (ResultSet rows = busy.executeQuery()) {
			while (rows.next()) {
				readBusy(jobs.get(rows.getInt(1)), rows, 2);
			}
		}
	}

	@Override
	void insert(List<Job> jobs, long nowMs) throws SQLException {
		for (Job job : jobs) {
			Command command = job.command;
			Campaign source = job.source;
			insert.setString(1, command.accountGroupId);
			insert.setString(2, job.newId);
			insert.setString(3, command.name != null ? command.name : source.name());
			insert.setString(4, source.description());
			insert.setInt(5, job.targetCount);
			set(insert, 6, "text", split(job.targets));
			insert.setBoolean(7, source.includeConversationHistory());
			insert.setBoolean(8, source.autoCancelOnMessageReceived());
			insert.setString(9, source.outreachLanguage());
			insert.setString(10, job.workflow);
			insert.setString(11, source.id());
			insert.setString(12, command.traceId);
			insert.setBytes(13, command.digest);
			insert.setString(14, job.keyPublicId);
			insert.setDouble(15, nowMs);
			insert.setDouble(16, nowMs);
			insert.addBatch();
		}
		insert.executeBatch(); // a trace that another worker wrote meanwhile is an error
	}

	/** What is asked about, a row a lead. */
	private static final class Leads {
		final List<Integer> numbers = new ArrayList<>(); // of the jobs
		final List<String> accountGroups = new ArrayList<>(), lists = new ArrayList<>(), leads = new ArrayList<>();

		void add(int n, Job job, String list, String lead) {
			numbers.add(n);
			accountGroups.add(job.command.accountGroupId);
			lists.add(list);
			leads.add(lead);
		}
	}
}
