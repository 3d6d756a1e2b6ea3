import java.nio.ByteBuffer;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * Set-based statements over arrays, one element a command; leads of a command as one text, comma-separated, which is three
 * times fewer bytes than repeating its account group and audience for each. Workflows are copied inside the server.
 */
class SetStore extends Store {
	private static final int SMALL_AUDIENCE = 1000;

	private final PreparedStatement lock, identify, targets, lists, missingSmall, missingLarge, members, busy, insert, charge;

	SetStore(String url, String user, String password) throws SQLException {
		super(url, user, password);
		lock = prepare("""
				SELECT c.n, g.rate_interval_us, g.rate_burst, g.rate_tat_us, g.rate_at_us
				FROM unnest(?::text[], ?::bytea[]) WITH ORDINALITY AS c (ag, key, n)
				JOIN api_key_account_groups AS g ON g.account_group_id = c.ag AND g.key_digest = c.key
				ORDER BY g.account_group_id, g.key_digest
				FOR NO KEY UPDATE OF g""");
		identify = prepare("SELECT c.n, t.now_ms, " + PRIOR + ", " + KEY + """

				FROM unnest(?::text[], ?::text[], ?::bytea[]) WITH ORDINALITY AS c (ag, trace, key, n)
				CROSS JOIN (
					SELECT (extract(epoch FROM date_trunc('milliseconds', clock_timestamp())) * 1000)::bigint AS now_ms OFFSET 0
				) AS t
				LEFT JOIN campaigns AS p ON p.account_group_id = c.ag AND p.trace_id = c.trace
				LEFT JOIN api_keys AS k ON k.key_digest = c.key""");
		targets = prepare("SELECT c.n, " + SOURCE + ", " + AUDIENCE + """

				FROM unnest(?::text[], ?::text[], ?::text[]) WITH ORDINALITY AS c (ag, source, audience, n)
				LEFT JOIN campaigns AS s ON s.account_group_id = c.ag AND s.id = c.source AND s.deleted_at IS NULL
				LEFT JOIN audiences AS a ON a.account_group_id = c.ag AND a.id = c.audience""");
		lists = prepare("""
				SELECT c.n, l.id, l.ready
				FROM unnest(?::text[], ?::text[]) WITH ORDINALITY AS c (ag, audience, n)
				JOIN audiences AS l ON l.account_group_id = c.ag AND l.parent_id = c.audience
				ORDER BY c.n, l.id""");
		/* Of a small audience all members are read and hashed; in a large one each lead is looked up. Left to itself, the
		 * planner takes a list for one lead, and reads it once a lead: five times the time. */
		missingSmall = prepare("""
				SELECT c.n, w.lead
				FROM unnest(?::text[], ?::text[], ?::text[]) WITH ORDINALITY AS c (ag, lists, leads, n)
				CROSS JOIN LATERAL (
					SELECT unnest(string_to_array(c.leads, ',')) COLLATE "C"
					EXCEPT SELECT m.lead_id FROM audience_leads AS m
					WHERE m.account_group_id = c.ag AND m.audience_id = ANY (string_to_array(c.lists, ','))
				) AS w (lead)
				ORDER BY c.n, w.lead""");
		missingLarge = prepare("""
				SELECT c.n, w.lead
				FROM unnest(?::text[], ?::text[], ?::text[]) WITH ORDINALITY AS c (ag, lists, leads, n)
				CROSS JOIN LATERAL unnest(string_to_array(c.leads, ',')) AS w (lead)
				WHERE (SELECT true FROM audience_leads AS m
					WHERE m.account_group_id = c.ag AND m.audience_id = ANY (string_to_array(c.lists, ','))
						AND m.lead_id = w.lead LIMIT 1) IS NULL
				ORDER BY c.n, w.lead COLLATE "C\"""");
		members = prepare("""
				SELECT c.n, s.count, s.leads
				FROM unnest(?::text[], ?::text[]) WITH ORDINALITY AS c (ag, lists, n)
				CROSS JOIN LATERAL (
					SELECT count(*), coalesce(string_agg(m.lead_id, ',' ORDER BY m.lead_id), '') AS leads
					FROM (SELECT DISTINCT m.lead_id FROM audience_leads AS m
						WHERE m.account_group_id = c.ag AND m.audience_id = ANY (string_to_array(c.lists, ','))
						LIMIT ?) AS m
				) AS s""");
		busy = prepare("""
				SELECT c.n, e.lead_id, e.campaign_id, a.status
				FROM unnest(?::text[], ?::text[]) WITH ORDINALITY AS c (ag, leads, n)
				CROSS JOIN LATERAL unnest(string_to_array(c.leads, ',')) AS w (lead)
				CROSS JOIN LATERAL (SELECT e.lead_id, e.campaign_id FROM campaign_leads AS e
					WHERE e.account_group_id = c.ag AND e.lead_id = w.lead AND e.state = 'enrolled' OFFSET 0) AS e
				JOIN campaigns AS a ON a.account_group_id = c.ag AND a.id = e.campaign_id
					AND a.status IN ('running', 'paused') AND a.deleted_at IS NULL
				ORDER BY c.n, e.lead_id, e.campaign_id""");
		insert = prepare("INSERT INTO campaigns (" + DRAFT + """
				)
				SELECT c.ag, c.id, coalesce(c.name, s.name), s.description, 'draft', c.count, string_to_array(c.leads, ','),
					s.include_conversation_history, s.auto_cancel_on_message_received, s.outreach_language, s.workflow, s.id,
					c.trace, c.digest, c.key, t.now, t.now
				FROM unnest(?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::int[], ?::bytea[], ?::text[])
					AS c (ag, source, id, trace, name, leads, count, digest, key)
				CROSS JOIN (SELECT to_timestamp(?::float8 / 1000) AS now OFFSET 0) AS t
				JOIN campaigns AS s ON s.account_group_id = c.ag AND s.id = c.source
				ORDER BY c.ag, c.trace
				ON CONFLICT DO NOTHING""");
		charge = prepare("""
				UPDATE api_key_account_groups AS g SET rate_tat_us = c.tat, rate_at_us = c.at
				FROM unnest(?::text[], ?::bytea[], ?::bigint[], ?::bigint[]) AS c (ag, key, tat, at)
				WHERE g.account_group_id = c.ag AND g.key_digest = c.key""");
	}

	private record GrantId(String accountGroupId, ByteBuffer keyDigest) {
	}

	@Override
	void lockGrants(List<Job> jobs) throws SQLException {
		Map<GrantId, List<Job>> users = jobs.stream().filter(job -> job.command.keyDigest != null).collect(
				Collectors.groupingBy(job -> new GrantId(job.command.accountGroupId, ByteBuffer.wrap(job.command.keyDigest))));
		List<List<Job>> distinct = List.copyOf(users.values());
		List<Job> first = distinct.stream().map(list -> list.get(0)).collect(Collectors.toList());
		setTexts(lock, 1, first, job -> job.command.accountGroupId);
		setBytes(lock, 2, first, job -> job.command.keyDigest);
		try (ResultSet rows = lock.executeQuery()) {
			while (rows.next()) {
				List<Job> sharing = distinct.get(rows.getInt(1) - 1);
				Command command = sharing.get(0).command;
				Grant grant = new Grant(command.accountGroupId, command.keyDigest, rows.getLong(2), rows.getInt(3), rows.getLong(4),
						rows.getLong(5));
				sharing.forEach(job -> job.grant = grant);
			}
		}
	}

	@Override
	long identify(List<Job> jobs) throws SQLException {
		setTexts(identify, 1, jobs, job -> job.command.accountGroupId);
		setTexts(identify, 2, jobs, job -> job.command.traceId);
		setBytes(identify, 3, jobs, job -> job.command.keyDigest);
		long nowMs = 0;
		try (ResultSet rows = identify.executeQuery()) {
			while (rows.next()) {
				nowMs = rows.getLong(2);
				Job job = jobs.get(rows.getInt(1) - 1);
				readPrior(job, rows, 3);
				readKey(job, rows, 17);
			}
		}
		return nowMs;
	}

	@Override
	void findTargets(List<Job> jobs) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		setTexts(targets, 1, jobs, job -> job.command.accountGroupId);
		setTexts(targets, 2, jobs, job -> job.command.campaignId);
		setTexts(targets, 3, jobs, job -> job.command.audienceId);
		try (ResultSet rows = targets.executeQuery()) {
			while (rows.next()) {
				Job job = jobs.get(rows.getInt(1) - 1);
				readSource(job, rows, 2);
				readAudience(job, rows, 8);
			}
		}
		findLists(jobs);
	}

	/** Of those jobs whose audience is a folder. */
	final void findLists(List<Job> jobs) throws SQLException {
		List<Job> folders = jobs.stream().filter(job -> "folder".equals(job.audienceKind)).collect(Collectors.toList());
		if (folders.isEmpty()) {
			return;
		}
		setTexts(lists, 1, folders, job -> job.command.accountGroupId);
		setTexts(lists, 2, folders, job -> job.command.audienceId);
		try (ResultSet rows = lists.executeQuery()) {
			while (rows.next()) {
				addList(folders.get(rows.getInt(1) - 1), rows.getString(2), rows.getBoolean(3));
			}
		}
	}

	@Override
	void findMissing(List<Job> jobs) throws SQLException {
		Map<Boolean, List<Job>> bySize = jobs.stream()
				.collect(Collectors.partitioningBy(job -> job.audienceLeadCount > 0 && job.audienceLeadCount <= SMALL_AUDIENCE));
		findMissing(missingSmall, bySize.get(true));
		findMissing(missingLarge, bySize.get(false));
	}

	private void findMissing(PreparedStatement statement, List<Job> jobs) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		setTexts(statement, 1, jobs, job -> job.command.accountGroupId);
		setTexts(statement, 2, jobs, job -> job.lists);
		setTexts(statement, 3, jobs, job -> job.targets);
		try (ResultSet rows = statement.executeQuery()) {
			while (rows.next()) {
				jobs.get(rows.getInt(1) - 1).missing.add(rows.getString(2));
			}
		}
	}

	@Override
	void readMembers(List<Job> jobs, int limit) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		setTexts(members, 1, jobs, job -> job.command.accountGroupId);
		setTexts(members, 2, jobs, job -> job.lists);
		members.setInt(3, limit);
		try (ResultSet rows = members.executeQuery()) {
			while (rows.next()) {
				Job job = jobs.get(rows.getInt(1) - 1);
				job.targetCount = rows.getInt(2);
				job.targets = rows.getString(3);
			}
		}
	}

	@Override
	void findBusy(List<Job> jobs) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		setTexts(busy, 1, jobs, job -> job.command.accountGroupId);
		setTexts(busy, 2, jobs, job -> job.targets);
		try (ResultSet rows = busy.executeQuery()) {
			while (rows.next()) {
				readBusy(jobs.get(rows.getInt(1) - 1), rows, 2);
			}
		}
	}

	@Override
	void insert(List<Job> jobs, long nowMs) throws SQLException {
		if (jobs.isEmpty()) {
			return;
		}
		setTexts(insert, 1, jobs, job -> job.command.accountGroupId);
		setTexts(insert, 2, jobs, job -> job.command.campaignId);
		setTexts(insert, 3, jobs, job -> job.newId);
		setTexts(insert, 4, jobs, job -> job.command.traceId);
		setTexts(insert, 5, jobs, job -> job.command.name);
		setTexts(insert, 6, jobs, job -> job.targets);
		set(insert, 7, "int4", jobs.stream().map(job -> job.targetCount).toArray(Integer[]::new));
		setBytes(insert, 8, jobs, job -> job.command.digest);
		setTexts(insert, 9, jobs, job -> job.keyPublicId);
		insert.setDouble(10, nowMs);
		int written = insert.executeUpdate();
		if (written != jobs.size()) {
			throw new SQLException("another worker was faster: " + written + " of " + jobs.size() + " drafts written");
		}
	}

	@Override
	void charge(List<Job> jobs) throws SQLException {
		Set<Grant> grants = new LinkedHashSet<>();
		jobs.stream().filter(job -> job.grant != null && job.grant.charged).forEach(job -> grants.add(job.grant));
		if (grants.isEmpty()) {
			return;
		}
		set(charge, 1, "text", column(grants, grant -> grant.accountGroupId, String[]::new));
		set(charge, 2, "bytea", column(grants, grant -> grant.keyDigest, byte[][]::new));
		set(charge, 3, "int8", column(grants, grant -> grant.tatUs, Long[]::new));
		set(charge, 4, "int8", column(grants, grant -> grant.chargedAtUs, Long[]::new));
		charge.executeUpdate();
	}

	final void setTexts(PreparedStatement statement, int index, List<Job> jobs, Function<Job, String> of)
			throws SQLException {
		set(statement, index, "text", column(jobs, of, String[]::new));
	}

	private void setBytes(PreparedStatement statement, int index, List<Job> jobs, Function<Job, byte[]> of)
			throws SQLException {
		set(statement, index, "bytea", column(jobs, of, byte[][]::new));
	}

	private static <S, T> T[] column(Collection<S> items, Function<S, T> of, java.util.function.IntFunction<T[]> make) {
		T[] values = make.apply(items.size());
		int i = 0;
		for (S item : items) {
			values[i++] = of.apply(item);
		}
		return values;
	}
}
