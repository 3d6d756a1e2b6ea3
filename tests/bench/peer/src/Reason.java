/** Why a command was refused: the stable word, and what a caller gets to see. As `campaign-worker reasons` says. */
enum Reason {
	KEY_MISMATCH(400, "VALIDATION_ERROR", "The command record's key is not its account group."),
	INVALID_FIELD(400, "VALIDATION_ERROR", "Request validation failed."),
	DRAFT_DELETED(409, "CONFLICT", "The draft this command created has been deleted since."),
	EXPIRED(502, "UPSTREAM_ERROR", "The command expired before it could be started; nothing was written."),
	KEY_MISSING(401, "UNAUTHORIZED", "No API key was given."),
	KEY_UNKNOWN(401, "UNAUTHORIZED", "The API key is not valid."),
	KEY_REVOKED(401, "UNAUTHORIZED", "The API key has been revoked."),
	PERMISSION_MISSING(403, "FORBIDDEN", "The API key lacks the permission campaigns:write."),
	ACCOUNT_GROUP_DENIED(403, "FORBIDDEN", "The API key has no access to this account group."),
	TRACE_REUSED(409, "CONFLICT", "This traceId was already used for another command."),
	RATE_LIMITED(429, "RATE_LIMITED", "Rate limit exceeded."),
	CAMPAIGN_NOT_FOUND(404, "NOT_FOUND", "The campaign was not found."),
	AUDIENCE_NOT_FOUND(404, "NOT_FOUND", "The audience was not found."),
	AUDIENCE_POPULATING(409, "AUDIENCE_NOT_READY", "The audience is still being populated."),
	LEAD_NOT_IN_AUDIENCE(400, "VALIDATION_ERROR", "Not every lead belongs to the audience."),
	AUDIENCE_TOO_LARGE(400, "VALIDATION_ERROR", "The audience has more leads than one campaign may select."),
	LEAD_ACTIVE(409, "CONFLICT", "A lead is enrolled in an active workflow.");

	final int httpStatus;
	final String code, message, word;

	Reason(int httpStatus, String code, String message) {
		this.httpStatus = httpStatus;
		this.code = code;
		this.message = message;
		this.word = name().toLowerCase(java.util.Locale.ROOT);
	}

	boolean retryable() {
		return this == EXPIRED || this == RATE_LIMITED || this == AUDIENCE_POPULATING;
	}
}
