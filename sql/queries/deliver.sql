-- name: claim_deliveries
-- Leases what one channel is due to be told and returns the story as it is now; of a digest, a further row per story it tells
-- (`member_of` says which digest). $1 channel, $2 lease, $3 name of the lease, $4 most, $5 least time between two messages about
-- an incident that is not over. A channel that is down is asked about one message only.
WITH due AS MATERIALIZED (
    SELECT d.delivery_id, (a.kind = 'incident' AND a.state <> 'resolved' AND d.told_at > now() - $5::interval) IS TRUE AS early
    FROM paidwatch.delivery d JOIN paidwatch.alert a ON a.alert_id = d.alert_id
    WHERE d.channel = $1::text AND d.due_at <= now() AND (d.waits_for IS NULL OR (d.waits_for = 'held' AND d.bundle_id IS NULL))
        AND NOT EXISTS (SELECT FROM paidwatch.channel c WHERE c.name = $1::text AND c.not_before > now())
    ORDER BY d.due_at, d.delivery_id
    LIMIT CASE WHEN EXISTS (SELECT FROM paidwatch.channel c WHERE c.name = $1::text AND c.down_since IS NOT NULL) THEN 1 ELSE $4::integer END
    FOR UPDATE OF d SKIP LOCKED
), put_off AS (
    UPDATE paidwatch.delivery d SET due_at = d.told_at + $5::interval FROM due WHERE due.early AND d.delivery_id = due.delivery_id
), leased AS (
    -- What was given up and is due again, because its story moved on or a person wants it, has all its time anew; what was taken
    -- keeps the count of its tries until the next message of its story.
    UPDATE paidwatch.delivery d SET lease = $3::text, lease_until = now() + $2::interval, due_at = now() + $2::interval,
        attempts = CASE WHEN d.dead_at IS NULL AND d.trying_since IS NOT NULL THEN d.attempts ELSE 0 END + 1, dead_at = NULL,
        trying_since = CASE WHEN d.dead_at IS NULL THEN coalesce(d.trying_since, now()) ELSE now() END
    FROM due WHERE NOT due.early AND d.delivery_id = due.delivery_id
    RETURNING d.*
), said AS (
    SELECT l.*, NULL::bigint AS member_of FROM leased l
    UNION ALL
    SELECT m.*, l.delivery_id FROM leased l JOIN paidwatch.delivery m ON m.bundle_id = l.delivery_id WHERE m.waits_for IS NOT NULL
)
SELECT d.delivery_id, d.member_of, d.told_revision, d.reference, d.attempts, d.trying_since, d.escalated, d.escalated_from,
    i.installation_id::text AS installation_id,
    a.alert_id, a.kind, a.state, a.outcome, a.cause, a.detail, a.delay, a.notes, a.revision, a.reminders, a.opened_at, a.resolved_at,
    record.right_ones, record.compared, record.stopped, a.severity, a.acked_by, a.acked_until, a.escalations, a.channel AS about_channel, ended.actor AS ended_by, ended.note AS ended_why,
    a.proposed, a.activation_id::text AS activation_id, a.payment_id::text AS payment_id, a.user_id::text AS user_id, coalesce(u.label, u.name) AS user_label,
    coalesce(w.plan_id, a.plan_id) AS plan_id, coalesce(w.method, a.method) AS method, coalesce(w.amount, a.amount) AS amount,
    coalesce(w.currency, a.currency) AS currency,
    w.paid_at, w.noticed_at, w.grace_until, coalesce(p.reference, a.reference) AS provider_reference, p.status, now() AS now,
    h.webhooks, h.webhook_first_at, h.webhook_last_at, h.webhook_paid_at, h.webhook_moving_at, h.webhook_bad_at, h.webhook_failed_at,
    an.wanted_at AS answer_wanted_at, an.status AS answer_status, an.said AS answer_said, an.amount AS answer_amount, an.currency AS answer_currency,
    an.answered_at, an.problem AS answer_problem, an.asked_at AS answer_tried_at,
    CASE WHEN d.member_of IS NULL THEN (
        SELECT count(*) FROM (SELECT FROM paidwatch.alert b WHERE b.state <> 'resolved' AND b.kind = a.kind AND b.cause = a.cause
            AND b.alert_id <> a.alert_id LIMIT 1000) others)::integer ELSE 0 END AS sharing,
    CASE WHEN d.member_of IS NULL AND a.kind = 'channel_down' AND a.state <> 'resolved' THEN (
        SELECT count(*) FROM paidwatch.delivery h WHERE h.channel = a.channel AND h.waits_for = 'held')::integer
        WHEN d.member_of IS NULL AND a.kind = 'forward_failed' AND a.state <> 'resolved' THEN (
        SELECT count(*) FROM (SELECT FROM paidwatch.webhook x WHERE x.provider = a.method AND x.forward_state = 'due' LIMIT 100000) few)::integer END AS waiting,
    CASE WHEN d.member_of IS NULL AND a.kind = 'forward_failed' AND a.state <> 'resolved' THEN (
        SELECT count(*) FROM (SELECT FROM paidwatch.webhook x WHERE x.provider = a.method AND x.forward_state = 'dead' LIMIT 100000) few)::integer END AS dead,
    CASE WHEN a.kind = 'forward_failed' THEN (SELECT t.down_since FROM paidwatch.forward_target t WHERE t.provider = a.method) END AS away_since
FROM said d
JOIN paidwatch.alert a ON a.alert_id = d.alert_id
CROSS JOIN paidwatch.installation i
CROSS JOIN (
    SELECT count(*) FILTER (WHERE x.was_right) AS right_ones, count(*) AS compared, (SELECT b.reason FROM paidwatch.breaker b) AS stopped
    FROM paidwatch.activation x WHERE x.was_right IS NOT NULL
) record
LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
LEFT JOIN paidwatch.payments p ON p.payment_id = a.payment_id
LEFT JOIN paidwatch.subscribers u ON u.user_id = a.user_id
LEFT JOIN paidwatch.answer an ON an.method = lower(CASE WHEN a.payment_id IS NULL THEN a.method ELSE coalesce(p.method, w.method, a.method) END)
    AND an.reference = CASE WHEN a.payment_id IS NULL THEN a.reference ELSE p.reference END AND d.member_of IS NULL
LEFT JOIN LATERAL (
    SELECT h.actor, h.note FROM paidwatch.alert_history h
    WHERE a.outcome = 'dismissed' AND h.alert_id = a.alert_id AND h.what = 'dismissed' ORDER BY h.history_id DESC LIMIT 1
) ended ON true
LEFT JOIN LATERAL (
    -- What the log of webhooks has about it. Of a story that is counted: what came since it began.
    SELECT count(*)::integer AS webhooks, min(x.at) AS webhook_first_at, max(x.at) AS webhook_last_at,
        min(x.at) FILTER (WHERE x.valid AND x.status = 'paid') AS webhook_paid_at,
        max(x.at) FILTER (WHERE x.valid AND x.status IN ('pending', 'settling')) AS webhook_moving_at,
        max(x.at) FILTER (WHERE x.valid IS FALSE) AS webhook_bad_at,
        max(x.at) FILTER (WHERE x.failed AND x.valid IS NOT FALSE) AS webhook_failed_at
    FROM (
        SELECT x.* FROM paidwatch.reading x
        WHERE a.payment_id IS NOT NULL AND x.log_id = ANY (ARRAY(
            SELECT y.log_id FROM paidwatch.reading y WHERE y.reference = p.reference
            UNION ALL SELECT y.log_id FROM paidwatch.reading y WHERE y.reference = p.payment_id::text
            UNION ALL SELECT y.log_id FROM paidwatch.reading y WHERE y.order_id = p.reference
            UNION ALL SELECT y.log_id FROM paidwatch.reading_name y WHERE y.name = p.reference))
        UNION ALL
        SELECT x.* FROM paidwatch.reading x WHERE a.reference NOT IN ('', '?', '!') AND x.reference = a.reference AND x.method = a.method
        UNION ALL
        SELECT x.* FROM paidwatch.claim c JOIN paidwatch.reading x ON x.method = c.method AND x.at >= c.opened_at
        WHERE a.reference IN ('', '?') AND c.method = a.method AND c.reference = a.reference
            AND CASE WHEN a.reference = '' THEN x.valid IS FALSE ELSE x.failed AND x.valid IS NOT FALSE AND x.reference IS NULL END
        UNION ALL
        (SELECT x.* FROM paidwatch.reading x WHERE a.reference = '!' AND x.method = a.method AND x.valid ORDER BY x.at DESC LIMIT 1)
    ) x WHERE d.member_of IS NULL
) h ON true
ORDER BY d.delivery_id;

-- name: record_attempt
-- The delivery log, and a hint to whoever looks at it live. Locks the delivery, so that the next statement of the transaction
-- sees whatever was decided about it meanwhile. $1 delivery, $2 took, $3 revision, $4 word, $5 result, $6 code, $7 bytes, $8 error.
WITH mine AS (
    SELECT d.delivery_id FROM paidwatch.delivery d WHERE d.delivery_id = $1::bigint FOR NO KEY UPDATE
)
INSERT INTO paidwatch.attempt (delivery_id, took, revision, word, result, code, size, error)
SELECT m.delivery_id, $2::interval, $3::integer, $4::text, $5::text, $6::text, $7::integer, $8::text FROM mine m
RETURNING CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('paidwatch_feed', '')::text END AS told;

-- name: record_sent
-- The channel took it. A story that moved on meanwhile is due at once, an incident and what is counted after a pause; where a message cannot be edited
-- what changed quietly (the growth of an incident, the answer of a provider) is not told by itself, and a member is spoken for by its incident.
-- $1 delivery, $2 lease, $3 revision told, $4 reference, $5 least time between two messages about an incident that is not over, $6 state told,
-- $7 reminders told.
UPDATE paidwatch.delivery d SET told_at = now(),
    told_revision = CASE WHEN q.quietly AND NOT paidwatch.can_edit(d.reference || $4::text::jsonb) THEN a.revision ELSE $3::integer END,
    reference = d.reference || $4::text::jsonb,
    due_at = CASE
        WHEN a.revision <= $3::integer THEN NULL
        WHEN paidwatch.can_edit(d.reference || $4::text::jsonb)
            THEN now() + CASE WHEN (a.kind = 'incident' OR a.reference IN ('', '?')) AND a.state <> 'resolved' THEN $5::interval ELSE interval '0' END
        WHEN a.incident_id IS NOT NULL OR q.quietly THEN NULL
        ELSE now() END,
    waits_for = NULL, not_before = NULL, trying_since = NULL, lease = NULL, lease_until = NULL, dead_at = NULL, last_error = NULL
FROM paidwatch.alert a
CROSS JOIN LATERAL (
    SELECT a.state <> 'resolved' AND (a.kind = 'incident' OR a.reference IN ('', '?') OR a.state = $6::text AND a.reminders = $7::integer) AS quietly
) q
WHERE d.delivery_id = $1::bigint AND d.lease = $2::text AND a.alert_id = d.alert_id
RETURNING a.opened_at, d.due_at IS NOT NULL AS moved_on,
    EXISTS (SELECT FROM paidwatch.channel c WHERE c.name = d.channel AND c.down_since IS NOT NULL) AS down;

-- name: lock_bundled
-- Waits for whatever is being decided about the stories of a digest. $1 its delivery.
SELECT d.delivery_id FROM paidwatch.delivery d WHERE d.bundle_id = $1::bigint AND d.waits_for IS NOT NULL
ORDER BY d.delivery_id FOR NO KEY UPDATE;

-- name: record_bundled
-- What a digest told, now that it was taken; what changed quietly meanwhile is treated as in record_sent. $1 delivery of the digest,
-- $2 deliveries, $3 the revision told of each, $4 states told, $5 reminders told.
UPDATE paidwatch.delivery d SET told_at = now(), told_revision = CASE WHEN q.quietly AND NOT d.edits THEN a.revision ELSE v.revision END,
    due_at = CASE WHEN a.revision > v.revision AND (d.edits OR NOT q.quietly) THEN now() END,
    waits_for = NULL, not_before = NULL, attempts = 0, trying_since = NULL, last_error = NULL
FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::integer[]) AS v (delivery_id, revision, state, reminders), paidwatch.alert a,
    LATERAL (SELECT a.state <> 'resolved' AND a.state = v.state AND a.reminders = v.reminders AS quietly) q
WHERE d.delivery_id = v.delivery_id AND d.bundle_id = $1::bigint AND d.waits_for IS NOT NULL AND a.alert_id = d.alert_id
RETURNING d.delivery_id, d.due_at IS NOT NULL AS moved_on;

-- name: unbundle
-- The digest will never be taken: its stories are told one by one. $1 delivery of the digest.
UPDATE paidwatch.delivery SET bundle_id = NULL, waits_for = NULL, due_at = now() WHERE bundle_id = $1::bigint AND waits_for IS NOT NULL;

-- name: record_retry
-- Not taken; again after $3. $4 says why.
UPDATE paidwatch.delivery SET due_at = now() + $3::interval, not_before = now() + $3::interval, lease = NULL, lease_until = NULL, last_error = $4::text
WHERE delivery_id = $1::bigint AND lease = $2::text
RETURNING delivery_id;

-- name: record_dead
-- Never to be taken, or tried for too long: kept as a dead letter. $3 says why.
UPDATE paidwatch.delivery SET due_at = NULL, lease = NULL, lease_until = NULL, dead_at = now(), last_error = $3::text
WHERE delivery_id = $1::bigint AND lease = $2::text
RETURNING delivery_id;

-- name: record_held
-- The channel is down: the message waits for its repair. $3 until the next try, $4 says why, $5 whether the time spent on trying
-- counts: the service may have been only busy.
UPDATE paidwatch.delivery SET due_at = now() + $3::interval, not_before = now() + $3::interval, waits_for = 'held', bundle_id = NULL,
    attempts = CASE WHEN $5::boolean THEN attempts ELSE 0 END, trying_since = CASE WHEN $5::boolean THEN trying_since END,
    lease = NULL, lease_until = NULL, last_error = $4::text
WHERE delivery_id = $1::bigint AND lease = $2::text
RETURNING delivery_id;

-- name: put_back
-- Leased and not sent, because the service asked for a pause meanwhile. $1 delivery, $2 lease.
UPDATE paidwatch.delivery SET due_at = now(), attempts = attempts - 1, lease = NULL, lease_until = NULL
WHERE delivery_id = $1::bigint AND lease = $2::text;

-- name: hold_channel
-- No request to this channel before $2 from now, or later where it was so already; $3 is the reason while it is down, NULL while
-- it is only asked to wait.
INSERT INTO paidwatch.channel AS c (name, not_before, down_since, down_reason)
VALUES ($1::text, now() + $2::interval, CASE WHEN $3::text IS NOT NULL THEN now() END, $3::text)
ON CONFLICT (name) DO UPDATE SET not_before = greatest(c.not_before, excluded.not_before), down_since = coalesce(c.down_since, excluded.down_since),
    down_reason = coalesce(excluded.down_reason, c.down_reason);

-- name: channel_down_since
-- Whether a channel is down already; nobody else decides about it until the end of the transaction. $1 channel.
SELECT c.down_since FROM paidwatch.channel c WHERE c.name = $1::text FOR UPDATE;

-- name: living_channels
-- Those of $1 that are not down, in the same order.
SELECT n.name FROM unnest($1::text[]) WITH ORDINALITY AS n (name, place)
WHERE NOT EXISTS (SELECT FROM paidwatch.channel c WHERE c.name = n.name AND c.down_since IS NOT NULL) ORDER BY n.place;

-- name: hold_waiting
-- What is due on a channel that is down waits for its repair. $1 channel.
UPDATE paidwatch.delivery d SET waits_for = 'held', bundle_id = NULL
FROM paidwatch.alert a
WHERE d.channel = $1::text AND d.due_at <= now() AND d.waits_for IS NULL AND d.lease IS NULL AND a.alert_id = d.alert_id AND a.kind <> 'test'
RETURNING d.delivery_id;

-- name: channels_over
-- These channels are down no more, and whoever was told so is told this. $1 channels, $2 whether they are meant because they took a
-- message (true), or all others, which nobody configures any more and which nothing holds back either (false), $3 note.
WITH works AS (
    UPDATE paidwatch.channel c SET down_since = NULL, down_reason = NULL, not_before = CASE WHEN $2::boolean THEN c.not_before END
    WHERE (c.name = ANY ($1::text[])) = $2::boolean AND c.down_since IS NOT NULL RETURNING c.name
), over AS (
    UPDATE paidwatch.alert a SET state = 'resolved', outcome = 'ended', resolved_at = now(), revision = a.revision + 1, remind_at = NULL,
        escalate_at = NULL, look_at = NULL, acked_until = NULL
    FROM works w WHERE a.kind = 'channel_down' AND a.channel = w.name AND a.state <> 'resolved' RETURNING a.alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, note) SELECT o.alert_id, 'resolved', $3::text FROM over o
), queued AS (
    UPDATE paidwatch.delivery x SET due_at = CASE WHEN x.lease_until > now() THEN x.due_at ELSE greatest(now(), coalesce(x.not_before, now())) END
    FROM over o WHERE x.alert_id = o.alert_id AND (x.dead_at IS NULL OR x.told_revision > 0)
)
SELECT name FROM works;

-- name: gather
-- What waited on a channel ($2: 'held' for its repair, 'quiet' for the end of the quiet hours) becomes one digest of kind $3, or is
-- due message by message where there is less of it than $4. Returns how many messages waited, and the alert of the digest.
WITH waited AS MATERIALIZED (
    SELECT d.delivery_id FROM paidwatch.delivery d JOIN paidwatch.alert a ON a.alert_id = d.alert_id
    WHERE d.channel = $1::text AND d.waits_for = $2::text AND d.bundle_id IS NULL AND (d.lease IS NULL OR d.lease_until <= now())
        AND a.kind NOT IN ('held', 'morning', 'test')
    FOR UPDATE OF d SKIP LOCKED
), note AS (
    INSERT INTO paidwatch.alert (kind, state, resolved_at, outcome, look_at, channel)
    SELECT $3::text, 'resolved', now(), 'ended', NULL, $1::text WHERE (SELECT count(*) FROM waited) >= $4::integer
    RETURNING alert_id
), digest AS (
    INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT n.alert_id, $1::text, now() FROM note n RETURNING delivery_id
), told AS (
    UPDATE paidwatch.delivery d SET bundle_id = (SELECT g.delivery_id FROM digest g), not_before = NULL, lease = NULL, lease_until = NULL,
        waits_for = CASE WHEN EXISTS (SELECT FROM digest) THEN d.waits_for END,
        due_at = CASE WHEN EXISTS (SELECT FROM digest) THEN NULL ELSE now() END
    FROM waited v WHERE d.delivery_id = v.delivery_id
)
SELECT (SELECT count(*) FROM waited) AS waited, (SELECT n.alert_id FROM note n) AS alert_id;

-- name: next_delivery
-- When this channel has something to be told next, as a span from now; whether anything waits for the end of the quiet hours, and
-- whether what is due is still to be marked as waiting for the channel's repair. $1 channel.
SELECT greatest(d.due_at, c.not_before) - clock_timestamp() AS wait, d.due_at IS NOT NULL AS waiting, clock_timestamp() AS now,
    EXISTS (SELECT FROM paidwatch.delivery q WHERE q.channel = $1::text AND q.waits_for = 'quiet' AND q.bundle_id IS NULL
        AND (q.lease IS NULL OR q.lease_until <= now())) AS quiet,
    c.down_since IS NOT NULL AND EXISTS (
        SELECT FROM paidwatch.delivery u JOIN paidwatch.alert a ON a.alert_id = u.alert_id WHERE u.channel = $1::text AND u.due_at <= now()
            AND u.waits_for IS NULL AND u.lease IS NULL AND a.kind <> 'test') AS unheld
FROM (SELECT min(due_at) AS due_at FROM paidwatch.delivery WHERE channel = $1::text AND due_at IS NOT NULL
    AND (waits_for IS NULL OR (waits_for = 'held' AND bundle_id IS NULL))) d
LEFT JOIN paidwatch.channel c ON c.name = $1::text;

-- name: last_request
-- How long ago this channel was last asked, as far as its pace is concerned. $1 channel.
SELECT clock_timestamp() - max(t.at) AS ago FROM (SELECT at, delivery_id FROM paidwatch.attempt ORDER BY attempt_id DESC LIMIT 50) t
JOIN paidwatch.delivery d ON d.delivery_id = t.delivery_id WHERE d.channel = $1::text;

-- name: release_leases
-- A new leader is the only sender: what its predecessor had under way is due now.
UPDATE paidwatch.delivery SET due_at = now(), lease = NULL, lease_until = NULL WHERE lease IS NOT NULL;

-- name: queue_test
-- A marked test story on these channels. $1 channels, $2 lines.
WITH told AS (
    INSERT INTO paidwatch.alert (kind, cause, notes, look_at) VALUES ('test', '', $2::text[], NULL) RETURNING alert_id
)
INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT t.alert_id, c.name, now() FROM told t CROSS JOIN unnest($1::text[]) AS c (name)
RETURNING alert_id, delivery_id, channel;

-- name: resolve_test
-- Ends a test story. $1 alert.
WITH done AS (
    UPDATE paidwatch.alert SET state = 'resolved', resolved_at = now(), outcome = 'dismissed', revision = revision + 1 WHERE alert_id = $1::bigint
    RETURNING alert_id
)
UPDATE paidwatch.delivery d SET due_at = now() FROM done WHERE d.alert_id = done.alert_id AND d.told_revision > 0;

-- name: open_note
-- One alert that is no payment's, due now on every channel of $4: $1 kind, $2 cause, $3 lines, $5 state ('resolved': over as soon
-- as it is told), $6 the channel that it is about (NULL: none), $7 severity. Returns nothing where the same is open already.
WITH told AS (
    INSERT INTO paidwatch.alert (kind, cause, notes, state, resolved_at, outcome, look_at, channel, severity)
    SELECT $1::text, $2::text, $3::text[], $5::text, over.at, CASE WHEN over.at IS NOT NULL THEN 'ended' END,
        CASE WHEN over.at IS NULL THEN now() END, $6::text, $7::text
    FROM (SELECT CASE WHEN $5::text = 'resolved' THEN now() END AS at) over
    ON CONFLICT DO NOTHING
    RETURNING alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what) SELECT t.alert_id, 'opened' FROM told t
), queued AS (
    INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT t.alert_id, c.name, now() FROM told t CROSS JOIN unnest($4::text[]) AS c (name)
)
SELECT alert_id FROM told;

-- name: list_deliveries
-- The outbox as a person looks at it, the newest first. $1 channel or NULL, $2 state or NULL, $3 most.
SELECT s.*, a.kind, a.state AS alert_state, a.revision, a.payment_id::text AS payment_id, a.user_id::text AS user_id
FROM (
    SELECT d.delivery_id, d.alert_id, d.channel, d.told_revision, d.told_at, d.due_at, d.attempts, d.trying_since, d.dead_at, d.last_error,
        d.lease IS NOT NULL AS under_way, d.bundle_id, d.replayed_by,
        CASE WHEN d.dead_at IS NOT NULL AND d.due_at IS NULL THEN 'dead' WHEN d.waits_for IS NOT NULL THEN 'held'
             WHEN d.due_at IS NOT NULL THEN 'due' WHEN d.told_revision > 0 THEN 'sent' ELSE 'none' END AS state
    FROM paidwatch.delivery d WHERE $1::text IS NULL OR d.channel = $1::text
) s
JOIN paidwatch.alert a ON a.alert_id = s.alert_id
WHERE $2::text IS NULL OR s.state = $2::text
ORDER BY s.delivery_id DESC LIMIT $3::integer;

-- name: show_delivery
-- One delivery. $1 its number.
SELECT d.delivery_id, d.alert_id, d.channel, d.told_revision, d.told_at, d.due_at, d.not_before, d.attempts, d.trying_since, d.dead_at,
    d.last_error, d.lease IS NOT NULL AS under_way, d.waits_for, d.bundle_id, d.replayed_by, d.escalated, d.reference,
    a.kind, a.state AS alert_state, a.revision, a.payment_id::text AS payment_id, a.user_id::text AS user_id,
    c.down_since, c.down_reason, c.not_before AS channel_not_before,
    CASE WHEN d.dead_at IS NOT NULL AND d.due_at IS NULL THEN 'dead' WHEN d.waits_for IS NOT NULL THEN 'held'
         WHEN d.due_at IS NOT NULL THEN 'due' WHEN d.told_revision > 0 THEN 'sent' ELSE 'none' END AS state
FROM paidwatch.delivery d JOIN paidwatch.alert a ON a.alert_id = d.alert_id LEFT JOIN paidwatch.channel c ON c.name = d.channel
WHERE d.delivery_id = $1::bigint;

-- name: attempts_of
-- Every request made for one delivery, the oldest first. $1 delivery.
SELECT t.at, t.took, t.revision, t.word, t.result, t.code, t.size, t.error FROM paidwatch.attempt t WHERE t.delivery_id = $1::bigint
ORDER BY t.attempt_id;

-- name: retry_delivery
-- A waiting message is tried now, whatever its back-off, as the first on its channel; so is a channel that is down. A wish of the
-- service to wait stands. $1 delivery.
WITH tried AS (
    UPDATE paidwatch.delivery d SET due_at = 'epoch', not_before = NULL, waits_for = CASE WHEN d.waits_for = 'held' THEN 'held' END
    WHERE d.delivery_id = $1::bigint AND d.due_at IS NOT NULL AND d.lease IS NULL AND d.bundle_id IS NULL
    RETURNING d.delivery_id, d.alert_id, d.channel
), asked AS (
    UPDATE paidwatch.channel c SET not_before = NULL FROM tried t WHERE c.name = t.channel AND c.down_since IS NOT NULL
)
SELECT t.delivery_id, t.alert_id, t.channel FROM tried t;

-- name: replay_deliveries
-- Dead letters are tried again, with all their time anew. $1 deliveries, or NULL for all; $2 channel or NULL; $3 who wants it.
UPDATE paidwatch.delivery d SET due_at = now(), not_before = NULL, replayed_by = $3::text
WHERE d.dead_at IS NOT NULL AND d.due_at IS NULL AND ($1::bigint[] IS NULL OR d.delivery_id = ANY ($1::bigint[]))
    AND ($2::text IS NULL OR d.channel = $2::text)
RETURNING d.delivery_id, d.alert_id, d.channel;
