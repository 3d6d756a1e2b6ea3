SELECT count(*) FROM archived_campaigns
WHERE account_group_id = $1::text AND trace_id = $2::text AND command_digest = ANY ($3::bytea[])
