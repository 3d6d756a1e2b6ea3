/** A campaign as a result shows it; times in milliseconds since the epoch. */
record Campaign(String id, String name, String description, String status, int selectedLeadCount,
		boolean includeConversationHistory, boolean autoCancelOnMessageReceived, String outreachLanguage, long createdAt,
		long updatedAt, Long startedAt, Long rateLimitedUntil) {
}
