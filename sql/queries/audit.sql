-- name: begin_audit
-- Takes the hour's audit, if nobody has; returns since when alerts are new to it. $1 least time between two.
WITH former AS MATERIALIZED (
    SELECT i.singleton, i.audited_at FROM paidwatch.installation i WHERE i.audited_at IS NULL OR i.audited_at <= now() - $1::interval
    FOR UPDATE
)
UPDATE paidwatch.installation i SET audited_at = now() FROM former f WHERE i.singleton = f.singleton
RETURNING coalesce(f.audited_at, i.installed_at) AS since;

-- name: requeue_forgotten
-- Deliveries that lag behind their alert, and are neither due nor leased, dead, silenced, nor waiting for a digest. Alerts that an
-- incident speaks for, and an incident's changes, are told by other rules. They are due now. $1 most, $2 the audit before; what was
-- over a day earlier was audited then.
WITH lost AS MATERIALIZED (
    SELECT d.delivery_id, d.told_revision, a.alert_id, a.kind, a.state, a.revision, d.channel
    FROM (
        SELECT o.* FROM paidwatch.alert o WHERE o.state <> 'resolved'
        UNION ALL
        SELECT r.* FROM paidwatch.alert r WHERE r.state = 'resolved' AND r.resolved_at >= $2::timestamptz - interval '1 day'
    ) a JOIN paidwatch.delivery d ON d.alert_id = a.alert_id
    LEFT JOIN paidwatch.delivery g ON g.delivery_id = d.bundle_id
    WHERE d.told_revision < a.revision AND d.due_at IS NULL AND d.lease IS NULL AND d.dead_at IS NULL
        AND a.silence_id IS NULL AND a.kind <> 'test'
        AND (a.incident_id IS NULL OR (a.state = 'resolved' AND d.told_revision > 0 AND d.edits))
        AND NOT (a.kind = 'incident' AND a.state <> 'resolved' AND d.told_revision > 0 AND NOT d.edits)
        AND (d.waits_for IS NULL OR g.delivery_id IS NULL OR (g.due_at IS NULL AND g.lease IS NULL))
    ORDER BY d.delivery_id LIMIT $1::integer FOR UPDATE OF d SKIP LOCKED
), queued AS (
    UPDATE paidwatch.delivery d SET due_at = now(), waits_for = NULL, bundle_id = NULL FROM lost l WHERE d.delivery_id = l.delivery_id
)
SELECT l.alert_id, l.kind, l.state, l.revision, l.channel, l.told_revision FROM lost l ORDER BY l.delivery_id;

-- name: queue_unheard
-- Alerts opened since $2 that nobody is to be told of, in no incident and no silence, though others were told before them. They are
-- due now. $1 channels, $3 most.
WITH lost AS MATERIALIZED (
    SELECT a.alert_id, a.kind, a.state, a.revision FROM paidwatch.alert a
    WHERE a.opened_at >= $2::timestamptz
        AND NOT EXISTS (SELECT FROM paidwatch.alert i WHERE i.alert_id = a.incident_id AND (i.state <> 'resolved' OR a.state = 'resolved'))
        AND a.silence_id IS NULL AND a.kind NOT IN ('test', 'channel_down')
        AND NOT EXISTS (SELECT FROM paidwatch.delivery d WHERE d.alert_id = a.alert_id)
        AND a.alert_id > (SELECT min(d.alert_id) FROM paidwatch.delivery d)
    ORDER BY a.alert_id LIMIT $3::integer
), queued AS (
    INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT l.alert_id, c.name, now() FROM lost l CROSS JOIN unnest($1::text[]) AS c (name)
    ON CONFLICT (alert_id, channel) DO NOTHING
)
SELECT l.alert_id, l.kind, l.state, l.revision FROM lost l ORDER BY l.alert_id;

-- name: bury_unserved
-- Messages for channels that nobody serves any more. $1 configured channels, $2 how long they must have been due.
UPDATE paidwatch.delivery d SET due_at = NULL, waits_for = NULL, bundle_id = NULL, dead_at = now(),
    last_error = 'the channel is not in the configuration any more'
WHERE NOT d.channel = ANY ($1::text[]) AND d.due_at < now() - $2::interval AND d.lease IS NULL
RETURNING d.delivery_id, d.channel;
