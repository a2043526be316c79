-- name: claim_due
-- Claims what is due, closes the ordinary case (access is as paid) and returns the facts of the rest, in the transaction that
-- will write the verdicts. $1 most payments to return, $2 period slack, $3 methods, $4 graces, $5 grace, $6 most payments to look at.
-- The ordinary case is what core.verdict calls ACTIVATED, less every special one; a test compares the two.
-- What the application was asked to activate over HTTP waits for the end of that, which says whose work it is.
WITH asked AS MATERIALIZED (
    SELECT a.payment_id, greatest(a.due_at, now()) + interval '2 seconds' AS until FROM paidwatch.activation a
    WHERE a.due_at IS NOT NULL AND a.state = 'calling'
), later AS (
    UPDATE paidwatch.watch w SET due_at = k.until FROM asked k WHERE w.payment_id = k.payment_id AND w.due_at <= now()
), due AS MATERIALIZED (
    SELECT w.ctid AS place, w.payment_id, w.state = 'waiting' AND w.reversed_at IS NULL AS plain, w.paid_at
    FROM paidwatch.watch w WHERE w.due_at <= now() AND w.payment_id <> ALL (ARRAY(SELECT k.payment_id FROM asked k))
    ORDER BY w.due_at LIMIT $6::integer FOR UPDATE SKIP LOCKED
), offered AS MATERIALIZED (
    SELECT pl.plan_id, pl.prices, pl.rank, pl.duration FROM paidwatch.plans pl WHERE NOT pl.free AND pl.rank > 0
), judged AS MATERIALIZED (
    -- By the words of the unique index, which no other index fits: by the payment, however many activations there are.
    -- OFFSET 0: payment by payment, by key, whatever the statistics of young tables make the planner believe.
    SELECT d.place, d.payment_id, o.payment_id IS NOT NULL AS ordinary
    FROM due d LEFT JOIN LATERAL (
    SELECT p.payment_id
    FROM paidwatch.payments p
    JOIN paidwatch.subscribers u ON u.user_id = p.user_id
    JOIN offered pl ON pl.plan_id = p.plan_id
    WHERE d.plain AND p.payment_id = d.payment_id AND p.paid AND p.amount > 0
        AND ((pl.prices ->> p.currency)::numeric > 0) IS NOT FALSE
        AND u.enabled AND NOT u.admin AND u.status_active IS NOT FALSE AND u.revoked_at IS NULL
        AND (NOT u.tier_watched OR u.tier_rank >= pl.rank)
        AND (NOT u.paid_until_watched OR u.paid_until IS NULL OR u.paid_until >= d.paid_at + greatest(pl.duration, interval '0') - $2::interval)
        AND NOT EXISTS (SELECT FROM paidwatch.activation a WHERE a.payment_id = d.payment_id AND a.state IN ('claimed', 'calling', 'done') AND a.state NOT IN ('claimed', 'calling'))
    OFFSET 0) o ON true
), settled AS (
    UPDATE paidwatch.watch w SET state = 'closed', outcome = 'activated', closed_at = now(), due_at = NULL, kind = NULL,
        settled_at = coalesce(w.settled_at, CASE WHEN w.touched_at >= w.paid_at THEN w.touched_at ELSE now() END)
    WHERE w.ctid = ANY (ARRAY(SELECT j.place FROM judged j WHERE j.ordinary))
    RETURNING w.settled_at - w.paid_at AS took
), rest AS MATERIALIZED (
    SELECT ARRAY(SELECT j.payment_id FROM judged j WHERE NOT j.ordinary LIMIT $1::integer) AS payment_ids
)
SELECT s.settled, s.took, now() AS now, f.*
FROM (SELECT count(*) AS settled, (array_agg(took))[:200] AS took FROM settled) s
LEFT JOIN LATERAL (
    -- Not called when everything was ordinary: planning it alone takes milliseconds.
    SELECT f.* FROM paidwatch.facts((SELECT payment_ids FROM rest), $3::text[], $4::interval[], $5::interval) f
    WHERE (SELECT cardinality(payment_ids) FROM rest) > 0 OFFSET 0
) f ON true;

-- name: postpone
-- $1 payments without a conclusion yet, $2 until when.
UPDATE paidwatch.watch w SET due_at = v.until
FROM unnest($1::text[], $2::timestamptz[]) AS v (payment_id, until)
WHERE w.payment_id = v.payment_id::paidwatch.payment_key AND w.state <> 'closed';

-- name: postpone_poisoned
-- A row that could not be judged: again later, ever more rarely. $1 payment.
UPDATE paidwatch.watch SET failures = failures + 1, due_at = now() + least(interval '1 minute' * power(2, least(failures, 10)), interval '6 hours')
WHERE payment_id = $1::text::paidwatch.payment_key
RETURNING failures;

-- name: open_gaps
-- Opens the alerts of gaps, or changes what is said of open ones; a silence that fits speaks for a fresh one. $1 payments, $2 kinds,
-- $3 causes, $4 details, $5 severities, $6 first reminder, $7 plans, $8 methods, $9 reasons of a delay, $10 notes (JSON arrays),
-- $11 amounts, $12 currencies, $13 whether a person may say yes to an activation.
WITH silence AS MATERIALIZED (
    SELECT s.silence_id, s.expires_at, s.user_id, s.plan_id, lower(s.method) AS method, s.kind, s.author
    FROM paidwatch.silence s WHERE s.ended_at IS NULL AND s.expires_at > now()
), marked AS (
    -- Told before the grace period is over, as when the application says that it failed: looked at again then, when it may be activated.
    UPDATE paidwatch.watch w SET state = 'gap', kind = g.kind, due_at = CASE WHEN w.grace_until > now() THEN w.grace_until END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::numeric[], $12::text[], $13::boolean[])
        AS g (payment_id, kind, cause, detail, severity, plan_id, method, delay, notes, amount, currency, proposed)
    WHERE w.payment_id = g.payment_id::paidwatch.payment_key
    RETURNING w.payment_id, w.user_id, g.kind, g.cause, g.detail, g.severity, g.plan_id, g.method, g.delay,
        ARRAY(SELECT jsonb_array_elements_text(g.notes::jsonb)) AS notes, g.amount, g.currency, g.proposed
), told AS (
    INSERT INTO paidwatch.alert AS a (kind, payment_id, user_id, cause, detail, delay, notes, remind_at, severity, plan_id, method, amount,
        currency, error_class, silence_id, proposed)
    SELECT m.kind, m.payment_id, m.user_id, m.cause, m.detail, m.delay, m.notes, CASE WHEN s.silence_id IS NULL THEN now() + $6::interval END,
        m.severity, m.plan_id, m.method, m.amount, m.currency, m.cause, s.silence_id, m.proposed
    FROM marked m
    LEFT JOIN LATERAL (
        SELECT s.silence_id FROM silence s
        WHERE (s.user_id IS NULL OR s.user_id = m.user_id) AND (s.plan_id IS NULL OR s.plan_id = m.plan_id)
            AND (s.method IS NULL OR s.method = lower(m.method)) AND (s.kind IS NULL OR s.kind = m.kind)
        ORDER BY s.expires_at DESC, s.silence_id LIMIT 1
    ) s ON true
    ON CONFLICT (payment_id) WHERE state <> 'resolved' AND payment_id IS NOT NULL
    DO UPDATE SET kind = excluded.kind, cause = excluded.cause, detail = excluded.detail, severity = excluded.severity,
        error_class = excluded.error_class, plan_id = excluded.plan_id, method = excluded.method, amount = excluded.amount,
        currency = excluded.currency, proposed = excluded.proposed, look_at = CASE WHEN a.severity <> excluded.severity THEN now() ELSE a.look_at END,
        notes = CASE WHEN cardinality(excluded.notes) > 0 THEN excluded.notes ELSE a.notes END
    RETURNING a.alert_id, a.payment_id, a.kind, a.severity, a.silence_id, a.xmax = 0 AS fresh
), woken AS (
    -- What turned out to be serious does not wait for the morning.
    UPDATE paidwatch.delivery x SET waits_for = NULL, due_at = now() FROM told t
    WHERE x.alert_id = t.alert_id AND NOT t.fresh AND t.severity = 'high' AND x.waits_for = 'quiet' AND x.bundle_id IS NULL AND x.lease IS NULL
    RETURNING x.alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, note)
    SELECT t.alert_id, k.what, k.note FROM told t
    CROSS JOIN LATERAL (
        SELECT 'opened' AS what, '' AS note
        UNION ALL
        SELECT 'silenced', format('silence %s by %s', s.silence_id, s.author) FROM silence s WHERE s.silence_id = t.silence_id
    ) k
    WHERE t.fresh
)
SELECT t.alert_id, t.payment_id::text AS payment_id, t.kind, t.fresh, t.silence_id IS NOT NULL AS silenced,
    EXISTS (SELECT FROM woken w WHERE w.alert_id = t.alert_id) AS woken
FROM told t;

-- name: close_watches
-- Closes watches and resolves what was said about them; a member of an incident is spoken for by it (end_members). $1 payments,
-- $2 outcomes, $3 when, $4 end of the quiet hours, in which what is of low severity says nothing (NULL: it is not quiet).
WITH done AS (
    UPDATE paidwatch.watch w SET state = 'closed', outcome = v.outcome, closed_at = now(), due_at = NULL, kind = NULL,
        settled_at = CASE WHEN v.outcome IN ('activated', 'fixed') THEN coalesce(w.settled_at, v.at) ELSE w.settled_at END
    FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS v (payment_id, outcome, at)
    WHERE w.payment_id = v.payment_id::paidwatch.payment_key AND w.state <> 'closed'
    RETURNING w.payment_id, v.outcome, w.paid_at, v.at
), resolved AS (
    UPDATE paidwatch.alert a SET state = 'resolved', outcome = d.outcome, resolved_at = now(), revision = a.revision + 1,
        remind_at = NULL, escalate_at = NULL, look_at = NULL, acked_until = NULL
    FROM done d WHERE a.payment_id = d.payment_id AND a.state <> 'resolved'
    RETURNING a.alert_id, a.payment_id, a.kind, a.severity, a.incident_id, a.storm_until, a.outcome
), noted AS (
    -- Whoever dismisses it, or lets it expire, says so in a word of their own.
    INSERT INTO paidwatch.alert_history (alert_id, what) SELECT r.alert_id, 'resolved' FROM resolved r WHERE r.outcome NOT IN ('dismissed', 'expired')
), queued AS (
    UPDATE paidwatch.delivery x SET
        due_at = CASE WHEN x.lease_until > now() OR x.waits_for IS NOT NULL OR x.told_revision = 0 AND r.storm_until > now() THEN x.due_at
                      WHEN r.severity = 'low' AND $4::timestamptz IS NOT NULL THEN $4::timestamptz
                      ELSE greatest(now(), coalesce(x.not_before, now())) END,
        waits_for = CASE WHEN x.lease_until > now() OR x.waits_for IS NOT NULL THEN x.waits_for
                         WHEN r.severity = 'low' AND $4::timestamptz IS NOT NULL THEN 'quiet' END
    FROM resolved r WHERE x.alert_id = r.alert_id AND r.incident_id IS NULL AND (x.dead_at IS NULL OR x.told_revision > 0)
)
SELECT d.payment_id::text AS payment_id, d.outcome, d.at - d.paid_at AS took, r.alert_id, r.kind, r.incident_id
FROM done d LEFT JOIN resolved r ON r.payment_id = d.payment_id;

-- name: close_history
-- The first run: payments from before the installation whose access is as paid, or which are gaps that nobody is to be woken
-- for. Returns the facts of the history still to be judged. $1 methods, $2 graces, $3 grace, $4 most payments.
SELECT now() AS now, f.* FROM paidwatch.facts(
    ARRAY(SELECT w.payment_id FROM paidwatch.watch w WHERE w.source = 'baseline' AND w.state = 'waiting' AND w.due_at IS NULL
        ORDER BY w.payment_id LIMIT $4::integer),
    $1::text[], $2::interval[], $3::interval) f;

-- name: close_unreadable_history
-- The first payment of the first run's history, whose facts cannot be read.
UPDATE paidwatch.watch w SET state = 'closed', outcome = 'baseline', closed_at = now(), due_at = NULL
WHERE w.payment_id = (SELECT k.payment_id FROM paidwatch.watch k WHERE k.source = 'baseline' AND k.state = 'waiting' AND k.due_at IS NULL
    ORDER BY k.payment_id LIMIT 1)
RETURNING w.payment_id::text AS payment_id, now() AS now;

-- name: close_as_history
-- $1 payments of the first run, $2 outcomes.
UPDATE paidwatch.watch w SET state = 'closed', outcome = v.outcome, closed_at = now(), due_at = NULL,
    settled_at = CASE WHEN v.outcome = 'activated' THEN w.paid_at END
FROM unnest($1::text[], $2::text[]) AS v (payment_id, outcome)
WHERE w.payment_id = v.payment_id::paidwatch.payment_key AND w.state = 'waiting';

-- name: open_digest
-- One alert that is no payment's: $1 kind, $2 cause, $3 lines, $4 channels. It is closed as soon as it is told.
WITH told AS (
    INSERT INTO paidwatch.alert (kind, cause, notes, state, resolved_at, outcome, look_at)
    VALUES ($1::text, $2::text, $3::text[], 'resolved', now(), 'dismissed', NULL) RETURNING alert_id
), queued AS (
    INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT t.alert_id, c.name, now() FROM told t CROSS JOIN unnest($4::text[]) AS c (name)
)
SELECT alert_id FROM told;

-- name: baseline_done
-- The past was taken as it is; from now on everything is news.
UPDATE paidwatch.installation SET baseline_at = now() WHERE baseline_at IS NULL;

-- name: remind
-- Looks again at gaps whose reminder is due: the verdict is made anew before anything is repeated. $1 most.
UPDATE paidwatch.watch w SET due_at = now()
WHERE w.state = 'gap' AND w.due_at IS NULL AND w.payment_id IN (
    SELECT a.payment_id FROM paidwatch.alert a WHERE a.remind_at <= now() ORDER BY a.remind_at LIMIT $1::integer);

-- name: reminders
-- The open alerts of these gaps whose reminder is due. $1 payments.
SELECT a.alert_id, a.payment_id::text AS payment_id, a.opened_at, a.reminders FROM paidwatch.alert a
WHERE a.payment_id = ANY ($1::text[]::paidwatch.payment_key[]) AND a.state = 'open' AND a.remind_at <= now() FOR UPDATE;

-- name: send_reminders
-- $1 alerts, $2 how many reminders each has had with this one, $3 the next one of each (NULL: none any more), $4 end of the quiet hours
-- (NULL: it is not quiet).
WITH due AS (
    UPDATE paidwatch.alert a SET reminders = v.sent, revision = a.revision + 1, remind_at = v.next
    FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[]) AS v (alert_id, sent, next)
    WHERE a.alert_id = v.alert_id AND a.state = 'open' RETURNING a.alert_id, a.severity
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what) SELECT due.alert_id, 'reminded' FROM due
)
UPDATE paidwatch.delivery x SET
    due_at = CASE WHEN x.lease_until > now() OR x.waits_for IS NOT NULL THEN x.due_at
                  WHEN due.severity = 'low' AND $4::timestamptz IS NOT NULL THEN $4::timestamptz
                  ELSE greatest(now(), coalesce(x.not_before, now())) END,
    waits_for = CASE WHEN x.lease_until > now() OR x.waits_for IS NOT NULL THEN x.waits_for
                     WHEN due.severity = 'low' AND $4::timestamptz IS NOT NULL THEN 'quiet' END
FROM due WHERE x.alert_id = due.alert_id AND x.dead_at IS NULL;

-- name: next_alarm
-- When there is something to do next, as spans from now, for each of those who do it.
SELECT least((SELECT noted_at FROM paidwatch.unread WHERE NOT history LIMIT 1),
        (SELECT min(due_at) FROM paidwatch.claim WHERE due_at IS NOT NULL),
        -- OFFSET 0, and no word of the alert's state, which another index knows: from the earliest on, no further than to the first.
        (SELECT a.remind_at FROM paidwatch.alert a
         CROSS JOIN LATERAL (SELECT FROM paidwatch.claim c WHERE c.method = a.method AND c.reference = a.reference AND c.state = 'gap'
             AND c.failures = 0 OFFSET 0) c
         WHERE a.remind_at IS NOT NULL AND a.reference IS NOT NULL ORDER BY a.remind_at LIMIT 1)) - clock_timestamp() AS detect,
    least((SELECT min(due_at) FROM paidwatch.watch WHERE due_at IS NOT NULL),
        (SELECT a.remind_at FROM paidwatch.alert a
         CROSS JOIN LATERAL (SELECT FROM paidwatch.watch w WHERE w.payment_id = a.payment_id AND w.state = 'gap' AND w.due_at IS NULL OFFSET 0) w
         WHERE a.remind_at IS NOT NULL ORDER BY a.remind_at LIMIT 1)) - clock_timestamp() AS decide,
    (SELECT min(look_at) FROM paidwatch.activation WHERE look_at IS NOT NULL) - clock_timestamp() AS double,
    (SELECT min(look_at) FROM paidwatch.alert WHERE look_at IS NOT NULL) - clock_timestamp() AS sweep,
    (SELECT min(due_at) FROM paidwatch.activation WHERE due_at IS NOT NULL AND strategy = 'sql') - clock_timestamp() AS activate;

-- name: purge_closed
-- Removes a few closed watches that are past their keeping, with their alerts. $1 keep, $2 most rows.
WITH old AS (
    SELECT payment_id FROM paidwatch.watch WHERE state = 'closed' AND closed_at < now() - $1::interval ORDER BY closed_at LIMIT $2::integer
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM paidwatch.watch w USING old WHERE w.payment_id = old.payment_id RETURNING w.payment_id
), stories AS (
    DELETE FROM paidwatch.alert a WHERE a.state = 'resolved' AND a.resolved_at < now() - $1::interval
        AND (a.payment_id IS NULL OR a.payment_id IN (SELECT payment_id FROM gone))
)
SELECT count(*) AS removed FROM gone;

-- name: purge_attempts
-- $1 keep, $2 most rows.
WITH gone AS (
    DELETE FROM paidwatch.attempt WHERE attempt_id IN (
        SELECT attempt_id FROM paidwatch.attempt WHERE at < now() - $1::interval ORDER BY at LIMIT $2::integer)
    RETURNING 1
)
SELECT count(*) AS removed FROM gone;

-- name: postpone_first
-- The due payment that could not even be read: again later, ever more rarely.
UPDATE paidwatch.watch SET failures = failures + 1, due_at = now() + least(interval '1 minute' * power(2, least(failures, 10)), interval '6 hours')
WHERE payment_id = (SELECT payment_id FROM paidwatch.watch WHERE due_at <= now() ORDER BY due_at LIMIT 1)
RETURNING payment_id::text AS payment_id;

-- name: open_by_kind
-- How many gaps are open, for the metrics.
SELECT k.kind, count(*) AS count FROM (
    SELECT w.kind FROM paidwatch.watch w WHERE w.state = 'gap' UNION ALL SELECT c.kind FROM paidwatch.claim c WHERE c.state = 'gap'
) k GROUP BY k.kind;
