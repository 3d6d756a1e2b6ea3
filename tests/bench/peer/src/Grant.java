/** A key's access to an account group, and its rate limit (GCRA) while commands of one batch are judged, in their order. */
final class Grant {
	final String accountGroupId;
	final byte[] keyDigest;
	final long intervalUs;
	final int burst;
	long tatUs;      // the theoretical arrival time after all that were admitted so far
	long chargedAtUs; // when the last admitted one arrived
	boolean charged;
	private long arrivedUs;

	Grant(String accountGroupId, byte[] keyDigest, long intervalUs, int burst, long tatUs, long atUs) {
		this.accountGroupId = accountGroupId;
		this.keyDigest = keyDigest;
		this.intervalUs = intervalUs;
		this.burst = burst;
		this.tatUs = tatUs;
		this.arrivedUs = atUs;
	}

	/** Charges a command; false if it comes too early. Delivered again, one is never older than those charged before it. */
	boolean admit(long stampUs) {
		arrivedUs = Math.max(arrivedUs, stampUs);
		if (tatUs - arrivedUs > toleranceUs()) {
			return false;
		}
		tatUs = Math.max(tatUs, arrivedUs) + intervalUs;
		chargedAtUs = arrivedUs;
		charged = true;
		return true;
	}

	int retryAfterSeconds(long nowMs) {
		long seconds = (tatUs - toleranceUs() - nowMs * 1000 + 999_999) / 1_000_000;
		return (int) Math.min(Integer.MAX_VALUE, Math.max(1, seconds));
	}

	/** "10 per second", "1 per minute", "1 per 2.5 s" */
	String describeRate() {
		if (1_000_000 % intervalUs == 0) {
			return 1_000_000 / intervalUs + " per second";
		}
		if (60_000_000 % intervalUs == 0) {
			return 60_000_000 / intervalUs + " per minute";
		}
		if (3_600_000_000L % intervalUs == 0) {
			return 3_600_000_000L / intervalUs + " per hour";
		}
		return "1 per " + java.math.BigDecimal.valueOf(intervalUs, 6).stripTrailingZeros().toPlainString() + " s";
	}

	private long toleranceUs() {
		return intervalUs * (burst - 1);
	}
}
