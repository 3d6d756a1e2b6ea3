import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.List;

/** One statement after the other, as one writes them for one command; each command is a transaction of its own. */
final class SingleStore extends Store {
	private final PreparedStatement lock, draft, key, source, audience, lists, missing, members, busy, insert, charge;

	SingleStore(String url, String user, String password) throws SQLException {
		super(url, user, password);
		lock = prepare("""
				SELECT rate_interval_us, rate_burst, rate_tat_us, rate_at_us FROM api_key_account_groups
				WHERE account_group_id = ? AND key_digest = ? FOR NO KEY UPDATE""");
		draft = prepare("SELECT " + PRIOR + " FROM campaigns AS p WHERE p.account_group_id = ? AND p.trace_id = ?");
		key = prepare("""
				SELECT (extract(epoch FROM date_trunc('milliseconds', clock_timestamp())) * 1000)::bigint,""" + " " + KEY
				+ " FROM (SELECT ?::bytea AS digest) AS c LEFT JOIN api_keys AS k ON k.key_digest = c.digest");
		source = prepare("SELECT " + SOURCE
				+ " FROM campaigns AS s WHERE s.account_group_id = ? AND s.id = ? AND s.deleted_at IS NULL");
		audience = prepare("SELECT " + AUDIENCE + " FROM audiences AS a WHERE a.account_group_id = ? AND a.id = ?");
		lists = prepare("SELECT id, ready FROM audiences WHERE account_group_id = ? AND parent_id = ? ORDER BY id");
		/* As in SetStore: "lead_id = ANY (...)" is run as a filter over the whole list, or over all enrolled leads. */
		missing = prepare("""
				SELECT unnest(?::text[]) COLLATE "C" AS lead
				EXCEPT SELECT lead_id FROM audience_leads WHERE account_group_id = ? AND audience_id = ANY (?::text[])
				ORDER BY lead""");
		members = prepare("""
				SELECT DISTINCT lead_id FROM audience_leads WHERE account_group_id = ? AND audience_id = ANY (?::text[])
				ORDER BY lead_id LIMIT ?""");
		busy = prepare("""
				SELECT e.lead_id, e.campaign_id, a.status
				FROM unnest(?::text[]) AS w (lead)
				CROSS JOIN LATERAL (SELECT e.account_group_id, e.lead_id, e.campaign_id FROM campaign_leads AS e
					WHERE e.account_group_id = ? AND e.lead_id = w.lead AND e.state = 'enrolled' OFFSET 0) AS e
				JOIN campaigns AS a ON a.account_group_id = e.account_group_id AND a.id = e.campaign_id
					AND a.status IN ('running', 'paused') AND a.deleted_at IS NULL
				ORDER BY e.lead_id, e.campaign_id LIMIT 1""");
		insert = prepare("INSERT INTO campaigns (" + DRAFT + """
				)
				SELECT s.account_group_id, ?, coalesce(?, s.name), s.description, 'draft', ?, ?::text[],
					s.include_conversation_history, s.auto_cancel_on_message_received, s.outreach_language, s.workflow, s.id,
					?, ?, ?, t.now, t.now
				FROM campaigns AS s CROSS JOIN (SELECT to_timestamp(?::float8 / 1000) AS now) AS t
				WHERE s.account_group_id = ? AND s.id = ?
				ON CONFLICT DO NOTHING""");
		charge = prepare("""
				UPDATE api_key_account_groups SET rate_tat_us = ?, rate_at_us = ?
				WHERE account_group_id = ? AND key_digest = ?""");
	}

	@Override
	void lockGrants(List<Job> jobs) throws SQLException {
		for (Job job : jobs) {
			Command command = job.command;
			try (ResultSet rows = query(lock, command.accountGroupId, command.keyDigest)) {
				if (rows.next()) {
					job.grant = new Grant(command.accountGroupId, command.keyDigest, rows.getLong(1), rows.getInt(2), rows.getLong(3),
							rows.getLong(4));
				}
			}
		}
	}

	@Override
	long identify(List<Job> jobs) throws SQLException {
		long nowMs = 0;
		for (Job job : jobs) {
			try (ResultSet rows = query(draft, job.command.accountGroupId, job.command.traceId)) {
				if (rows.next()) {
					readPrior(job, rows, 1);
				}
			}
			try (ResultSet rows = query(key, job.command.keyDigest)) {
				rows.next();
				nowMs = rows.getLong(1);
				readKey(job, rows, 2);
			}
		}
		return nowMs;
	}

	@Override
	void findTargets(List<Job> jobs) throws SQLException {
		for (Job job : jobs) {
			Command command = job.command;
			try (ResultSet rows = query(source, command.accountGroupId, command.campaignId)) {
				if (rows.next()) {
					readSource(job, rows, 1);
				}
			}
			try (ResultSet rows = query(audience, command.accountGroupId, command.audienceId)) {
				if (rows.next()) {
					readAudience(job, rows, 1);
				}
			}
			if ("folder".equals(job.audienceKind)) {
				try (ResultSet rows = query(lists, command.accountGroupId, command.audienceId)) {
					while (rows.next()) {
						addList(job, rows.getString(1), rows.getBoolean(2));
					}
				}
			}
		}
	}

	@Override
	void findMissing(List<Job> jobs) throws SQLException {
		for (Job job : jobs) {
			try (ResultSet rows = query(missing, job.command.leads, job.command.accountGroupId, split(job.lists))) {
				while (rows.next()) {
					job.missing.add(rows.getString(1));
				}
			}
		}
	}

	@Override
	void readMembers(List<Job> jobs, int limit) throws SQLException {
		for (Job job : jobs) {
			StringBuilder leads = new StringBuilder();
			try (ResultSet rows = query(members, job.command.accountGroupId, split(job.lists), limit)) {
				while (rows.next()) {
					leads.append(leads.length() > 0 ? "," : "").append(rows.getString(1));
					job.targetCount++;
				}
			}
			job.targets = leads.toString();
		}
	}

	@Override
	void findBusy(List<Job> jobs) throws SQLException {
		for (Job job : jobs) {
			try (ResultSet rows = query(busy, split(job.targets), job.command.accountGroupId)) {
				if (rows.next()) {
					readBusy(job, rows, 1);
				}
			}
		}
	}

	@Override
	void insert(List<Job> jobs, long nowMs) throws SQLException {
		for (Job job : jobs) {
			Command command = job.command;
			set(insert, job.newId, command.name, job.targetCount, split(job.targets), command.traceId, command.digest,
					job.keyPublicId, (double) nowMs, command.accountGroupId, command.campaignId);
			if (insert.executeUpdate() != 1) {
				throw new SQLException("another worker was faster");
			}
		}
	}

	@Override
	void charge(List<Job> jobs) throws SQLException {
		for (Job job : jobs) {
			if (job.grant != null && job.grant.charged) {
				set(charge, job.grant.tatUs, job.grant.chargedAtUs, job.grant.accountGroupId, job.grant.keyDigest);
				charge.executeUpdate();
			}
		}
	}

	private ResultSet query(PreparedStatement statement, Object... values) throws SQLException {
		set(statement, values);
		return statement.executeQuery();
	}

	private void set(PreparedStatement statement, Object... values) throws SQLException {
		for (int i = 0; i < values.length; i++) {
			if (values[i] instanceof String[]) {
				set(statement, i + 1, "text", (String[]) values[i]);
			} else if (values[i] instanceof byte[]) {
				statement.setBytes(i + 1, (byte[]) values[i]);
			} else if (values[i] == null) {
				statement.setNull(i + 1, java.sql.Types.NULL);
			} else {
				statement.setObject(i + 1, values[i]);
			}
		}
	}
}
