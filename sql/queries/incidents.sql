-- name: incidents_of
-- What incidents are made of, as it is now. $1 alerts.
SELECT i.alert_id, i.kind_of, i.method, coalesce(m.started_at, i.opened_at) AS started_at, coalesce(m.total, 0) AS total,
    coalesce(m.open, 0) AS open, coalesce(m.rescued, 0) AS rescued, coalesce(m.money, '{}')::text AS money, o.paid_at AS oldest_paid_at,
    coalesce(c.causes, '[]')::text AS causes
FROM paidwatch.alert i
CROSS JOIN LATERAL (
    SELECT min(k.started_at) AS started_at, sum(k.total)::integer AS total, sum(k.open)::integer AS open, sum(k.rescued)::integer AS rescued,
        jsonb_object_agg(k.currency, k.amount::text) FILTER (WHERE k.amount IS NOT NULL) AS money
    FROM (
        SELECT coalesce(a.currency, '') AS currency, min(a.opened_at) AS started_at, count(*) AS total,
            count(*) FILTER (WHERE a.state <> 'resolved') AS open, count(*) FILTER (WHERE a.outcome IN ('activated', 'fixed')) AS rescued,
            sum(a.amount) FILTER (WHERE a.state <> 'resolved' AND a.amount::text NOT IN ('NaN', 'Infinity', '-Infinity')) AS amount
        FROM paidwatch.alert a WHERE a.incident_id = i.alert_id GROUP BY 1
    ) k
) m
CROSS JOIN LATERAL (
    SELECT min(w.paid_at) AS paid_at FROM paidwatch.alert a
    CROSS JOIN LATERAL (SELECT w.paid_at FROM paidwatch.watch w WHERE w.payment_id = a.payment_id OFFSET 0) w
    WHERE a.incident_id = i.alert_id AND a.state <> 'resolved'
) o
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(k.cause, k.count) ORDER BY k.count DESC, k.cause) AS causes FROM (
        SELECT a.cause || CASE WHEN a.detail <> '' THEN ': ' || left(a.detail, 200) ELSE '' END AS cause, count(*) AS count
        FROM paidwatch.alert a WHERE a.incident_id = i.alert_id GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3
    ) k
) c
WHERE i.alert_id = ANY ($1::bigint[]) AND i.kind = 'incident';

-- name: one_at_a_time
-- Whoever tells of alerts of the same likeness at the same time does so one after the other, each seeing what the ones before
-- did; held to the end of the transaction. In one order, so that nobody waits in a circle. $1 kinds, $2 methods, $3 error classes.
SELECT pg_advisory_xact_lock(k.key) FROM (
    SELECT DISTINCT hashtextextended(concat_ws(chr(31), c.kind, c.method, c.error_class), paidwatch.leadership()) AS key
    FROM unnest($1::text[], $2::text[], $3::text[]) AS c (kind, method, error_class) ORDER BY 1
) k;

-- name: alike
-- What there is already of each kind of likeness: $1 kinds, $2 methods ('' for none), $3 error classes, $4 window, $5 most to count,
-- $6 alerts that are not counted, as what this transaction opened is not. An open incident is locked, so that it is not ended
-- by somebody else before they join. OFFSET 0: by key, whatever the statistics of young tables say.
SELECT c.place, i.alert_id IS NOT NULL AS incident, r.recent, r.first_at
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS c (kind, method, error_class, place)
LEFT JOIN LATERAL (
    SELECT i.alert_id FROM paidwatch.alert i
    WHERE i.kind = 'incident' AND i.state <> 'resolved' AND i.kind_of = c.kind AND coalesce(i.method, '') = c.method AND i.error_class = c.error_class
    OFFSET 0 FOR NO KEY UPDATE
) i ON true
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS recent, min(k.opened_at) AS first_at FROM (
        SELECT a.opened_at FROM paidwatch.alert a
        WHERE a.kind = c.kind AND coalesce(a.method, '') = c.method AND a.error_class = c.error_class
            AND a.opened_at > now() - $4::interval AND a.opened_at <> now() AND a.silence_id IS NULL AND a.alert_id <> ALL ($6::bigint[])
        ORDER BY a.opened_at LIMIT $5::integer
    ) k
) r
ORDER BY c.place;

-- name: queue_alerts
-- Queues the first messages of fresh alerts: $1 alerts, $2 channels, $3 when, $4 what they wait for (NULL: they go out by themselves).
INSERT INTO paidwatch.delivery (alert_id, channel, due_at, waits_for)
SELECT v.alert_id, v.channel, v.due_at, v.waits_for
FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[]) AS v (alert_id, channel, due_at, waits_for)
ON CONFLICT (alert_id, channel) DO NOTHING;

-- name: hold_alerts
-- Others like them are waited for. $1 alerts, $2 until when each.
UPDATE paidwatch.alert a SET storm_until = v.until FROM unnest($1::bigint[], $2::timestamptz[]) AS v (alert_id, until) WHERE a.alert_id = v.alert_id;

-- name: open_incident
-- Opens the incident of what is alike, or takes the one that is open already, and locks it to the end of the transaction; who joins
-- changes what it is worth, so it is looked at. $1 kind, $2 method, $3 error class, $4 severity, $5 for how long others are waited for.
WITH opened AS (
    INSERT INTO paidwatch.alert AS i (kind, kind_of, method, error_class, cause, severity, storm_until)
    VALUES ('incident', $1::text, nullif($2::text, ''), $3::text, $3::text, $4::text, now() + $5::interval)
    ON CONFLICT (kind_of, coalesce(method, ''), error_class) WHERE kind = 'incident' AND state <> 'resolved'
    DO UPDATE SET storm_until = excluded.storm_until, look_at = now()
    RETURNING i.alert_id, i.xmax = 0 AS fresh
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what) SELECT o.alert_id, 'opened' FROM opened o WHERE o.fresh
)
SELECT alert_id, fresh FROM opened;

-- name: join_incident
-- Alerts join the incident that tells them from now on, with those alike that opened within a window before a fresh one: what was
-- not said of them is not said any more, their reminders and escalations end. $1 incident, $2 alerts, $3 channels, $4 when these
-- are told of a fresh incident, $5 what that waits for, $6 window (NULL: the incident is not fresh). A message that is under way stays.
WITH meant AS MATERIALIZED (
    SELECT unnest($2::bigint[]) AS alert_id
    UNION
    SELECT a.alert_id FROM paidwatch.alert i
    CROSS JOIN LATERAL (
        SELECT a.alert_id FROM paidwatch.alert a
        WHERE a.kind = i.kind_of AND coalesce(a.method, '') = coalesce(i.method, '') AND a.error_class = i.error_class
            AND a.opened_at > now() - $6::interval AND a.silence_id IS NULL
        OFFSET 0
    ) a
    WHERE i.alert_id = $1::bigint
), joined AS (
    UPDATE paidwatch.alert a SET incident_id = $1::bigint, remind_at = NULL, escalate_at = NULL, storm_until = NULL
    WHERE a.alert_id = ANY (ARRAY(SELECT m.alert_id FROM meant m)) AND a.incident_id IS NULL
    RETURNING a.alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, note) SELECT j.alert_id, 'joined', 'incident ' || $1::bigint FROM joined j
), heard AS MATERIALIZED (
    SELECT DISTINCT d.channel FROM paidwatch.delivery d WHERE d.alert_id = ANY (ARRAY(SELECT j.alert_id FROM joined j))
), dropped AS (
    DELETE FROM paidwatch.delivery d
    WHERE d.alert_id = ANY (ARRAY(SELECT j.alert_id FROM joined j)) AND d.told_revision = 0 AND d.lease IS NULL AND d.bundle_id IS NULL
        AND d.dead_at IS NULL AND NOT EXISTS (SELECT FROM paidwatch.attempt t WHERE t.delivery_id = d.delivery_id)
), muted AS (
    UPDATE paidwatch.delivery d SET due_at = NULL, waits_for = NULL,
        told_revision = CASE WHEN d.told_revision > 0 THEN (SELECT a.revision FROM paidwatch.alert a WHERE a.alert_id = d.alert_id) ELSE 0 END
    WHERE d.alert_id = ANY (ARRAY(SELECT j.alert_id FROM joined j)) AND d.due_at IS NOT NULL AND d.lease IS NULL AND d.bundle_id IS NULL
        AND CASE WHEN d.told_revision > 0 THEN NOT d.edits
                 ELSE EXISTS (SELECT FROM paidwatch.attempt t WHERE t.delivery_id = d.delivery_id) END
), queued AS (
    INSERT INTO paidwatch.delivery (alert_id, channel, due_at, waits_for)
    SELECT $1::bigint, c.channel, $4::timestamptz, $5::text FROM (SELECT h.channel FROM heard h UNION SELECT unnest($3::text[])) AS c
    ON CONFLICT (alert_id, channel) DO NOTHING
)
SELECT count(*)::integer AS joined FROM joined;

-- name: tell_incidents
-- Their members changed: said where a message can be edited, not more often than every $2; elsewhere it is said at the next reminder or
-- at the end. $1 incidents.
WITH changed AS (
    UPDATE paidwatch.alert i SET revision = i.revision + 1 WHERE i.alert_id = ANY ($1::bigint[]) AND i.kind = 'incident' AND i.state <> 'resolved'
    RETURNING i.alert_id, i.revision
)
UPDATE paidwatch.delivery x SET
    -- One under way is touched as well: whoever records its end waits, and sees that there is more to say.
    due_at = CASE WHEN x.edits AND x.lease IS NULL THEN coalesce(x.due_at, greatest(now(), x.told_at + $2::interval, x.not_before)) ELSE x.due_at END,
    told_revision = CASE WHEN x.edits OR x.due_at IS NOT NULL OR x.lease IS NOT NULL THEN x.told_revision ELSE c.revision END
FROM changed c
WHERE x.alert_id = ANY ($1::bigint[]) AND x.alert_id = c.alert_id AND (x.told_revision > 0 OR x.lease IS NOT NULL) AND x.dead_at IS NULL;

-- name: end_members
-- Members that are over: a message that can be edited is edited quietly, elsewhere the incident's end speaks for them. $1 alerts that are
-- resolved. Returns the incidents of those that are members.
WITH members AS MATERIALIZED (
    SELECT a.alert_id, a.incident_id FROM paidwatch.alert a WHERE a.alert_id = ANY ($1::bigint[]) AND a.incident_id IS NOT NULL
), said AS (
    UPDATE paidwatch.delivery x SET
        due_at = CASE WHEN x.lease IS NOT NULL THEN x.due_at WHEN x.edits THEN greatest(now(), x.not_before) END,
        waits_for = CASE WHEN x.lease IS NOT NULL THEN x.waits_for END,
        told_revision = CASE WHEN x.edits OR x.lease IS NOT NULL THEN x.told_revision
            ELSE (SELECT a.revision FROM paidwatch.alert a WHERE a.alert_id = x.alert_id) END
    WHERE x.alert_id = ANY (ARRAY(SELECT m.alert_id FROM members m)) AND (x.told_revision > 0 OR x.lease IS NOT NULL) AND x.bundle_id IS NULL
        AND (x.waits_for IS NULL OR NOT x.edits)
)
SELECT DISTINCT m.incident_id FROM members m;

-- name: close_incidents
-- Ends incidents without an open member, unless others are still waited for: then they are looked at again when that is over. Their
-- rows are locked already. $1 incidents, $2 least time between two edits, $3 end of the quiet hours (NULL: it is not quiet).
WITH empty AS MATERIALIZED (
    SELECT i.alert_id, i.storm_until > now() AS waits
    FROM paidwatch.alert i
    WHERE i.alert_id = ANY ($1::bigint[]) AND i.kind = 'incident' AND i.state <> 'resolved'
        AND NOT EXISTS (SELECT FROM paidwatch.alert m WHERE m.incident_id = i.alert_id AND m.state <> 'resolved')
), later AS (
    UPDATE paidwatch.alert i SET look_at = least(i.look_at, i.storm_until)
    WHERE i.alert_id = ANY (ARRAY(SELECT e.alert_id FROM empty e WHERE e.waits))
), ended AS (
    UPDATE paidwatch.alert i SET state = 'resolved', resolved_at = now(), revision = i.revision + 1,
        remind_at = NULL, escalate_at = NULL, look_at = NULL, acked_until = NULL
    WHERE i.alert_id = ANY (ARRAY(SELECT e.alert_id FROM empty e WHERE e.waits IS NOT TRUE))
    RETURNING i.alert_id, i.severity
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what) SELECT e.alert_id, 'resolved' FROM ended e
), told AS (
    UPDATE paidwatch.delivery x SET
        due_at = CASE WHEN x.lease IS NOT NULL THEN x.due_at
                      WHEN e.severity = 'low' AND NOT x.edits AND $3::timestamptz IS NOT NULL THEN $3::timestamptz
                      ELSE greatest(now(), x.not_before, CASE WHEN x.edits THEN x.told_at + $2::interval END) END,
        waits_for = CASE WHEN e.severity = 'low' AND NOT x.edits AND $3::timestamptz IS NOT NULL AND x.lease IS NULL THEN 'quiet' END
    FROM ended e
    WHERE x.alert_id = ANY ($1::bigint[]) AND x.alert_id = e.alert_id AND (x.told_revision > 0 OR x.lease IS NOT NULL) AND x.waits_for IS NULL
)
SELECT e.alert_id FROM ended e;
