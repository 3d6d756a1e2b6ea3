import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.List;
import java.util.Properties;

/**
 * What the rules look up and write, in the order in which Judge asks. All of it is one transaction, from the first
 * statement to commit(). READ COMMITTED suffices: the grants' locks come first, and traces are unique.
 */
abstract class Store {
	/** A draft that was there already, and the digest of the command that made it. */
	static final String PRIOR = """
			p.id, p.command_digest, p.deleted_at IS NOT NULL, p.name, p.description, p.status, p.selected_lead_count,
			p.include_conversation_history, p.auto_cancel_on_message_received, p.outreach_language,
			(extract(epoch FROM p.created_at) * 1000)::bigint, (extract(epoch FROM p.updated_at) * 1000)::bigint,
			(extract(epoch FROM p.started_at) * 1000)::bigint, (extract(epoch FROM p.rate_limited_until) * 1000)::bigint""";
	static final String KEY = "k.public_id, k.revoked_at IS NOT NULL, k.permissions @> '{campaigns:write}'";
	static final String SOURCE = """
			s.id, s.name, s.description, s.include_conversation_history, s.auto_cancel_on_message_received,
			s.outreach_language""";
	static final String AUDIENCE = "a.kind, a.ready, a.lead_count";
	static final String DRAFT = """
			account_group_id, id, name, description, status, selected_lead_count, selected_leads,
			include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, source_campaign_id,
			trace_id, command_digest, created_by_key, created_at, updated_at""";

	final Connection connection;

	/** Each statement is prepared once and run as a named one from its first use on, with binary parameters and results. */
	Store(String url, String user, String password) throws SQLException {
		Properties properties = new Properties();
		properties.setProperty("user", user);
		if (password != null) {
			properties.setProperty("password", password);
		}
		properties.setProperty("ApplicationName", "peer");
		properties.setProperty("prepareThreshold", "1");
		properties.setProperty("reWriteBatchedInserts", "true");
		/* Planning 500 commands' arrays anew each time costs more than it finds; the statements are written so that the
		 * generic plan is the good one, whatever the number of rows is taken for. */
		properties.setProperty("options", "-c plan_cache_mode=force_generic_plan -c jit=off -c TimeZone=UTC");
		connection = DriverManager.getConnection(url, properties);
		connection.setAutoCommit(false);
		connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
	}

	/** Sets each job's grant, if its key has one, and locks them all, in the order of their key. */
	abstract void lockGrants(List<Job> jobs) throws SQLException;

	/** The drafts of the jobs' traces and their keys; the server's time in milliseconds. */
	abstract long identify(List<Job> jobs) throws SQLException;

	/** The sources, the audiences, and of folders their lists. */
	abstract void findTargets(List<Job> jobs) throws SQLException;

	/** Which of the leads of jobs that name them are not in the audience. */
	abstract void findMissing(List<Job> jobs) throws SQLException;

	/** The audiences' leads, as targets, at most limit. */
	abstract void readMembers(List<Job> jobs, int limit) throws SQLException;

	/** The first of the targets that is enrolled in an active campaign. */
	abstract void findBusy(List<Job> jobs) throws SQLException;

	abstract void insert(List<Job> jobs, long nowMs) throws SQLException;

	/** Writes the rate limits of those grants that were charged. */
	abstract void charge(List<Job> jobs) throws SQLException;

	void commit() throws SQLException {
		connection.commit();
	}

	PreparedStatement prepare(String sql) throws SQLException {
		return connection.prepareStatement(sql);
	}

	void set(PreparedStatement statement, int index, String type, Object[] values) throws SQLException {
		Array array = connection.createArrayOf(type, values);
		statement.setArray(index, array);
		array.free();
	}

	static String[] split(String joined) {
		return joined.isEmpty() ? new String[0] : joined.split(",");
	}

	/** Columns PRIOR, from column first on. */
	static void readPrior(Job job, ResultSet rows, int first) throws SQLException {
		String id = rows.getString(first);
		if (id == null) {
			return;
		}
		job.priorDigest = rows.getBytes(first + 1);
		job.priorDeleted = rows.getBoolean(first + 2);
		job.prior = new Campaign(id, rows.getString(first + 3), rows.getString(first + 4), rows.getString(first + 5),
				rows.getInt(first + 6), rows.getBoolean(first + 7), rows.getBoolean(first + 8), rows.getString(first + 9),
				rows.getLong(first + 10), rows.getLong(first + 11), (Long) rows.getObject(first + 12),
				(Long) rows.getObject(first + 13));
	}

	/** Columns KEY. */
	static void readKey(Job job, ResultSet rows, int first) throws SQLException {
		job.keyPublicId = rows.getString(first);
		job.keyRevoked = rows.getBoolean(first + 1);
		job.keyMayWrite = rows.getBoolean(first + 2);
	}

	/** Columns SOURCE. */
	static void readSource(Job job, ResultSet rows, int first) throws SQLException {
		String id = rows.getString(first);
		if (id != null) {
			job.source = new Campaign(id, rows.getString(first + 1), rows.getString(first + 2), null, 0,
					rows.getBoolean(first + 3), rows.getBoolean(first + 4), rows.getString(first + 5), 0, 0, null, null);
		}
	}

	/** Columns AUDIENCE. */
	static void readAudience(Job job, ResultSet rows, int first) throws SQLException {
		job.audienceKind = rows.getString(first);
		job.audienceReady = rows.getBoolean(first + 1);
		job.audienceLeadCount = rows.getInt(first + 2);
		job.lists = "list".equals(job.audienceKind) ? job.command.audienceId : "";
	}

	/** The lists of a folder come in the order of their ids. */
	static void addList(Job job, String list, boolean ready) {
		job.lists = job.lists.isEmpty() ? list : job.lists + "," + list;
		if (!ready && job.populatingList == null) {
			job.populatingList = list;
		}
	}

	/** lead_id, campaign_id, status; the first one counts. */
	static void readBusy(Job job, ResultSet rows, int first) throws SQLException {
		if (job.busyLead == null) {
			job.busyLead = rows.getString(first);
			job.busyCampaign = rows.getString(first + 1);
			job.busyStatus = rows.getString(first + 2);
		}
	}
}
