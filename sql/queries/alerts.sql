-- name: alerts_due
-- The present, if any alert is to be looked at: one look into the index while nothing is due.
SELECT now() AS now FROM (SELECT a.look_at FROM paidwatch.alert a WHERE a.look_at IS NOT NULL ORDER BY a.look_at LIMIT 1) first
WHERE first.look_at <= now();

-- name: look_again
-- The owner's choices may have changed: everything that is not over is looked at anew.
UPDATE paidwatch.alert a SET look_at = now() WHERE a.state <> 'resolved';

-- name: gaps_to_expire
-- Locks what is open for too long, watch before alert as everywhere. $1 now, $2 how long, $3 most.
SELECT w.payment_id::text AS payment_id FROM paidwatch.alert a JOIN paidwatch.watch w ON w.payment_id = a.payment_id
WHERE a.look_at <= $1::timestamptz AND a.opened_at <= $1::timestamptz - $2::interval AND (a.state = 'open' OR a.acked_until <= $1::timestamptz) AND w.state <> 'closed'
ORDER BY a.look_at LIMIT $3::integer FOR UPDATE OF w, a;

-- name: look_at_alerts
-- Locks the alerts that are to be looked at, with what a look needs to know. $1 now, $2 most.
SELECT a.alert_id, a.kind, a.state, a.severity, a.method, a.opened_at, a.error_class,
    a.payment_id IS NOT NULL OR a.reference IS NOT NULL AS is_gap, a.reminders,
    a.remind_at, a.escalations, a.acked_by, a.acked_until, a.silence_id, a.channel, s.silence_id AS fitting,
    s.expires_at AS silenced_until, s.author, s.reason, f.author AS former_author,
    EXISTS (SELECT FROM paidwatch.alert i WHERE i.alert_id = a.incident_id AND i.state <> 'resolved') AS spoken_for,
    ARRAY(SELECT d.channel FROM paidwatch.delivery d WHERE d.alert_id = a.alert_id) AS heard,
    CASE WHEN a.kind = 'incident' THEN m.amount ELSE nullif(a.amount, 'NaN') END AS amount,
    CASE WHEN a.kind = 'incident' AND m.open = 0 THEN coalesce(a.storm_until, a.opened_at) END AS over_at
FROM paidwatch.alert a
LEFT JOIN paidwatch.silence f ON f.silence_id = a.silence_id
LEFT JOIN LATERAL (
    SELECT s.silence_id, s.expires_at, s.author, s.reason FROM paidwatch.silence s
    WHERE s.ended_at IS NULL AND s.expires_at > $1::timestamptz
        AND (s.user_id IS NULL OR s.user_id = a.user_id) AND (s.plan_id IS NULL OR s.plan_id = a.plan_id)
        AND (s.method IS NULL OR lower(s.method) = lower(a.method)) AND (s.kind IS NULL OR s.kind IN (a.kind, a.kind_of))
    ORDER BY s.expires_at DESC, s.silence_id LIMIT 1
) s ON a.state <> 'resolved'
LEFT JOIN LATERAL (
    -- What an incident is worth: its largest sum of one currency.
    SELECT coalesce(sum(k.open), 0) AS open, max(k.amount) AS amount FROM (
        SELECT count(*) AS open, sum(nullif(b.amount, 'NaN')) AS amount
        FROM paidwatch.alert b WHERE b.incident_id = a.alert_id AND b.state <> 'resolved' GROUP BY b.currency
    ) k
) m ON a.kind = 'incident'
WHERE a.look_at <= $1::timestamptz ORDER BY a.look_at LIMIT $2::integer FOR UPDATE OF a;

-- name: write_looks
-- How alerts stand after a look. $1 alerts, $2 states, $3 silences (NULL: none), $4 reminders, $5 next reminders, $6 escalations,
-- $7 next escalations, $8 next looks, $9 whether there is more to tell, $10 reasons of a delay (NULL: as it was), $11 outcomes of
-- what is over now, $12 now.
UPDATE paidwatch.alert a SET state = v.state, acked_until = CASE WHEN v.state = 'acked' THEN a.acked_until END, silence_id = v.silence_id,
    reminders = v.reminders, remind_at = v.remind_at, escalations = v.escalations, escalate_at = v.escalate_at, look_at = v.look_at,
    revision = a.revision + v.more::integer, delay = coalesce(v.delay, a.delay),
    resolved_at = CASE WHEN v.state = 'resolved' THEN coalesce(a.resolved_at, $12::timestamptz) END, outcome = coalesce(a.outcome, v.outcome)
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::integer[], $5::timestamptz[], $6::integer[], $7::timestamptz[], $8::timestamptz[],
        $9::boolean[], $10::text[], $11::text[])
    AS v (alert_id, state, silence_id, reminders, remind_at, escalations, escalate_at, look_at, more, delay, outcome)
WHERE a.alert_id = v.alert_id
RETURNING a.alert_id;

-- name: note_history
-- What happened to alerts, in order. $1 alerts, $2 what, $3 who, $4 notes.
INSERT INTO paidwatch.alert_history (alert_id, what, actor, note)
SELECT v.alert_id, v.what, v.actor, v.note FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS v (alert_id, what, actor, note);

-- name: tell_again
-- Everybody who hears of these alerts is due to hear more. $1 alerts, $2 now, $3 end of the quiet hours, which low severity waits
-- for (NULL: it is not quiet).
UPDATE paidwatch.delivery x SET
    due_at = CASE WHEN x.lease_until > now() OR x.waits_for IS NOT NULL THEN x.due_at
                  WHEN a.severity = 'low' AND $3::timestamptz IS NOT NULL THEN $3::timestamptz
                  ELSE greatest($2::timestamptz, coalesce(x.not_before, $2::timestamptz)) END,
    waits_for = CASE WHEN x.lease_until > now() OR x.waits_for IS NOT NULL THEN x.waits_for
                     WHEN a.severity = 'low' AND $3::timestamptz IS NOT NULL THEN 'quiet' END
FROM paidwatch.alert a
WHERE a.alert_id = ANY ($1::bigint[]) AND x.alert_id = a.alert_id AND (x.dead_at IS NULL OR x.told_revision > 0)
RETURNING x.alert_id;

-- name: tell_quietly
-- What changed is shown where a message can be edited; elsewhere it is left out, and the next thing to tell is told. $1 alerts, $2 now.
UPDATE paidwatch.delivery x SET
    due_at = CASE WHEN x.edits AND x.lease IS NULL THEN greatest($2::timestamptz, coalesce(x.not_before, $2::timestamptz)) ELSE x.due_at END,
    told_revision = CASE WHEN x.edits OR x.due_at IS NOT NULL OR x.lease IS NOT NULL THEN x.told_revision ELSE a.revision END
FROM paidwatch.alert a
WHERE a.alert_id = ANY ($1::bigint[]) AND x.alert_id = a.alert_id AND x.told_revision > 0 AND x.dead_at IS NULL AND x.waits_for IS NULL
RETURNING x.alert_id;

-- name: tell_further
-- Deliveries to channels that have none of this alert yet. $1 alerts, $2 channels, $3 when, $4 what they wait for, $5 whether by
-- an escalation, $6 the least amount of its step.
INSERT INTO paidwatch.delivery (alert_id, channel, due_at, waits_for, escalated, escalated_from)
SELECT v.alert_id, v.channel, v.due_at, v.waits_for, v.escalated, v.escalated_from
FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[], $5::boolean[], $6::numeric[]) AS v (alert_id, channel, due_at, waits_for, escalated, escalated_from)
ON CONFLICT (alert_id, channel) DO NOTHING
RETURNING alert_id, channel;

-- name: withdraw
-- A silence began: what was not told yet is not told now, and who heard is not told more. The steps of an escalation were taken
-- once; who was to hear by one hears when the silence ends. $1 alerts.
WITH untold AS (
    DELETE FROM paidwatch.delivery d WHERE d.alert_id = ANY ($1::bigint[]) AND d.told_revision = 0 AND NOT d.escalated AND d.lease IS NULL
)
UPDATE paidwatch.delivery d SET due_at = NULL, waits_for = NULL
WHERE d.alert_id = ANY ($1::bigint[]) AND (d.told_revision > 0 OR d.escalated) AND d.lease IS NULL AND d.due_at IS NOT NULL;

-- name: break_acks
-- New money ends an acknowledgement at once: of the same user's other alerts, and of the incident that was joined. $1 fresh alerts.
WITH fresh AS MATERIALIZED (
    SELECT f.alert_id, coalesce(f.payment_id::text, f.reference) AS payment_id, f.user_id, f.incident_id FROM paidwatch.alert f WHERE f.alert_id = ANY ($1::bigint[])
), meant AS MATERIALIZED (
    SELECT k.alert_id, min(k.payment_id) AS payment_id FROM (
        SELECT b.alert_id, f.payment_id FROM fresh f JOIN paidwatch.alert b ON b.user_id = f.user_id
        WHERE b.state = 'acked' AND b.alert_id <> ALL ($1::bigint[])
        UNION ALL
        SELECT f.incident_id, f.payment_id FROM fresh f WHERE f.incident_id IS NOT NULL
    ) k GROUP BY k.alert_id
), broken AS (
    UPDATE paidwatch.alert a SET state = 'open', acked_until = NULL, look_at = now(), remind_at = CASE WHEN a.incident_id IS NULL THEN now() END
    FROM meant m WHERE a.alert_id = m.alert_id AND a.state = 'acked'
    RETURNING a.alert_id, a.acked_by, m.payment_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, note)
    SELECT b.alert_id, 'ack_broken', format('the acknowledgement by %s: payment %s is new', b.acked_by, b.payment_id) FROM broken b
)
SELECT alert_id FROM broken;

-- name: alert_state
-- One alert as a person found it, without a lock. $1 alert.
SELECT a.alert_id, a.kind, a.payment_id::text AS payment_id, a.reference FROM paidwatch.alert a WHERE a.alert_id = $1::bigint;

-- name: lock_alert
-- One alert that a person wants to change. $1 alert.
SELECT a.alert_id, a.kind, a.state, a.outcome, a.resolved_at, a.acked_by, a.payment_id::text AS payment_id, a.user_id::text AS user_id
FROM paidwatch.alert a WHERE a.alert_id = $1::bigint FOR UPDATE;

-- name: ack_alert
-- Somebody looks after it: nobody is reminded. The next look says when that ends. $1 alert, $2 who, $3 for how long.
UPDATE paidwatch.alert a SET state = 'acked', acked_by = $2::text, acked_at = now(), acked_until = now() + $3::interval,
    remind_at = NULL, escalate_at = NULL, look_at = now(), revision = a.revision + 1
WHERE a.alert_id = $1::bigint AND a.state <> 'resolved'
RETURNING a.acked_until;

-- name: unack_alert
-- $1 alert.
UPDATE paidwatch.alert a SET state = 'open', acked_until = NULL, look_at = now(), revision = a.revision + 1
WHERE a.alert_id = $1::bigint AND a.state = 'acked'
RETURNING a.alert_id;

-- name: open_members
-- Locks the watches of what an incident speaks for, watch before alert as everywhere. $1 alert.
SELECT a.alert_id, a.payment_id::text AS payment_id FROM paidwatch.alert a JOIN paidwatch.watch w ON w.payment_id = a.payment_id
WHERE a.incident_id = $1::bigint AND a.state <> 'resolved' ORDER BY a.payment_id FOR UPDATE OF w;

-- name: resolve_alert
-- Ends an alert that no watch ends. $1 alert, $2 outcome.
UPDATE paidwatch.alert a SET state = 'resolved', outcome = $2::text, resolved_at = now(), revision = a.revision + 1, acked_until = NULL,
    remind_at = NULL, escalate_at = NULL, look_at = NULL
WHERE a.alert_id = $1::bigint AND a.state <> 'resolved'
RETURNING a.alert_id;

-- name: add_silence
-- Quiet about something for a while; what fits it and is open is looked at. $1 author, $2 reason, $3 for how long, $4 user, $5 plan,
-- $6 method, $7 kind.
WITH made AS (
    INSERT INTO paidwatch.silence (author, reason, expires_at, user_id, plan_id, method, kind)
    VALUES ($1::text, $2::text, now() + $3::interval, $4::text::paidwatch.user_key, $5::text, $6::text, $7::text)
    RETURNING silence_id, expires_at, user_id, plan_id, method, kind
), fitting AS (
    UPDATE paidwatch.alert a SET look_at = now() FROM made s
    WHERE a.state <> 'resolved' AND (s.user_id IS NULL OR s.user_id = a.user_id) AND (s.plan_id IS NULL OR s.plan_id = a.plan_id)
        AND (s.method IS NULL OR lower(s.method) = lower(a.method)) AND (s.kind IS NULL OR s.kind IN (a.kind, a.kind_of))
    RETURNING a.alert_id
)
SELECT s.silence_id, s.expires_at, (SELECT count(*) FROM fitting)::integer AS fitting FROM made s;

-- name: end_silence
-- Ends a silence before its time; what it speaks for is looked at. $1 silence, $2 who.
WITH ended AS (
    UPDATE paidwatch.silence s SET ended_at = now(), ended_by = $2::text
    WHERE s.silence_id = $1::bigint AND s.ended_at IS NULL AND s.expires_at > now() RETURNING s.silence_id
), fitting AS (
    UPDATE paidwatch.alert a SET look_at = now() FROM ended s WHERE a.silence_id = s.silence_id AND a.state <> 'resolved' RETURNING a.alert_id
)
SELECT s.silence_id, (SELECT count(*) FROM fitting)::integer AS fitting FROM ended s;

-- name: silence_state
-- $1 silence.
SELECT s.silence_id, s.expires_at, s.ended_at, s.ended_by FROM paidwatch.silence s WHERE s.silence_id = $1::bigint;

-- name: silences
-- Silences that hold, or all of them ($1); the newest first. $2 most.
SELECT s.silence_id, s.created_at, s.author, s.reason, s.expires_at, s.ended_at, s.ended_by, s.user_id::text AS user_id, s.plan_id,
    s.method, s.kind, s.ended_at IS NULL AND s.expires_at > now() AS open,
    (SELECT count(*) FROM paidwatch.alert a WHERE a.silence_id = s.silence_id AND a.state <> 'resolved')::integer AS alerts
FROM paidwatch.silence s WHERE $1::boolean OR s.ended_at IS NULL AND s.expires_at > now()
ORDER BY s.silence_id DESC LIMIT $2::integer;

-- name: alert_list
-- Alerts that are not over, the newest first. $1 also those that are, $2 also those that ended within this span (NULL: none), $3 also
-- members that an incident speaks for, $4 one alert only (NULL: all), $5 most.
SELECT now() AS now, a.alert_id, a.kind, a.kind_of, a.state, a.outcome, a.severity, a.payment_id::text AS payment_id,
    a.user_id::text AS user_id, coalesce(u.label, u.name) AS user_label, coalesce(a.plan_id, w.plan_id) AS plan_id,
    coalesce(a.method, w.method) AS method, coalesce(a.amount, w.amount) AS amount, coalesce(a.currency, w.currency) AS currency, a.reference,
    a.cause, a.detail, a.delay, a.notes, a.opened_at, a.resolved_at, a.acked_by, a.acked_at, a.acked_until, a.revision, a.reminders,
    a.remind_at, a.escalations, a.escalate_at, a.incident_id, a.channel, a.silence_id, s.author AS silenced_by,
    s.expires_at AS silenced_until, w.paid_at
FROM paidwatch.alert a
LEFT JOIN paidwatch.subscribers u ON u.user_id = a.user_id
LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
LEFT JOIN paidwatch.silence s ON s.silence_id = a.silence_id
WHERE CASE WHEN $4::bigint IS NOT NULL THEN a.alert_id = $4::bigint
    ELSE (a.state <> 'resolved' OR $1::boolean OR a.resolved_at >= now() - $2::interval)
        AND ($3::boolean OR NOT EXISTS (
            SELECT FROM paidwatch.alert i WHERE i.alert_id = a.incident_id AND (i.state <> 'resolved' OR a.state = 'resolved'))) END
ORDER BY a.alert_id DESC LIMIT $5::integer;

-- name: alert_events
-- What happened to an alert, in order; of two lines about one end the one that says more. $1 alert.
SELECT h.at, h.what, h.actor, h.note FROM paidwatch.alert_history h
WHERE h.alert_id = $1::bigint AND (h.what <> 'resolved' OR NOT EXISTS (
    SELECT FROM paidwatch.alert_history e WHERE e.alert_id = $1::bigint AND e.what IN ('dismissed', 'expired')))
ORDER BY h.history_id;

-- name: alert_deliveries
-- What each channel knows of an alert. $1 alert.
SELECT d.delivery_id, d.channel, d.told_revision, d.told_at, d.due_at, d.not_before, d.waits_for, d.dead_at, d.last_error, d.escalated,
    d.lease IS NOT NULL AS under_way, (SELECT count(*) FROM paidwatch.attempt t WHERE t.delivery_id = d.delivery_id)::integer AS attempts
FROM paidwatch.delivery d WHERE d.alert_id = $1::bigint ORDER BY d.delivery_id;

-- name: transaction_now
-- The moment that everything written in this transaction is of.
SELECT now() AS now;
