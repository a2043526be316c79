-- name: drain_inbox
-- Turns what the triggers noted into watches, and wakes the watches it concerns. $1 xip, $2 xmax: the snapshot that read the
-- inbox empty last; what it could not see is what is new ('{}' and '0' read everything). $3 most rows, $4 methods in lower case, $5 graces,
-- $6 grace for the other methods.
WITH taken AS MATERIALIZED (
    DELETE FROM paidwatch.inbox WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM (
            SELECT i.ctid FROM paidwatch.inbox i WHERE i.txid >= $2::text::xid8
            UNION ALL
            SELECT i.ctid FROM paidwatch.inbox i WHERE i.txid = ANY ($1::text[]::xid8[]) AND i.txid < $2::text::xid8
        ) AS news LIMIT $3::integer))
    RETURNING kind, at, payment_id, user_id, ref
), noted AS MATERIALIZED (
    SELECT n.payment_id, coalesce(p.user_id, n.user_id) AS user_id, p.plan_id, p.method, p.amount, p.currency, p.reference,
        n.entered_at, n.reversed_at, n.touched_at,
        coalesce(($5::interval[])[array_position($4::text[], lower(p.method))], $6::interval) AS grace
    FROM (
        SELECT payment_id, (array_agg(user_id))[1] AS user_id, min(at) FILTER (WHERE kind = 'P') AS entered_at,
            min(at) FILTER (WHERE kind = 'R') AS reversed_at, max(at) AS touched_at
        FROM taken WHERE payment_id IS NOT NULL GROUP BY payment_id
    ) n
    -- OFFSET 0, here and below: row by row, by key, whatever the statistics of young tables make the planner believe.
    LEFT JOIN LATERAL (SELECT * FROM paidwatch.payments p WHERE p.payment_id = n.payment_id OFFSET 0) p ON true
), stirred AS MATERIALIZED (
    -- A payment that leaves may bring back one that it superseded; a payment that enters may supersede.
    SELECT user_id, max(at) AS at, max(at) FILTER (WHERE kind IN ('U', 'E')) AS granted_at, bool_or(kind IN ('L', 'R', 'D')) AS freed,
        bool_or(kind = 'E') AS told
    FROM taken WHERE user_id IS NOT NULL GROUP BY user_id
), watched AS (
    INSERT INTO paidwatch.watch AS w (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at, touched_at,
        reversed_at, plan_id, method, amount, currency)
    SELECT n.payment_id, n.user_id, 'waiting', 'trigger', t.at, now(), t.at + n.grace,
        CASE WHEN n.reversed_at IS NOT NULL OR s.granted_at IS NOT NULL THEN now() ELSE t.at + n.grace END,
        greatest(n.touched_at, s.granted_at), n.reversed_at, n.plan_id, n.method, n.amount, n.currency
    FROM noted n
    CROSS JOIN LATERAL (SELECT coalesce(n.entered_at, n.reversed_at, n.touched_at) AS at) t
    LEFT JOIN stirred s ON s.user_id = n.user_id
    WHERE n.entered_at IS NOT NULL OR n.reversed_at IS NOT NULL
        OR EXISTS (SELECT FROM paidwatch.watch k WHERE k.payment_id = n.payment_id)
    ON CONFLICT (payment_id) DO UPDATE SET
        user_id = excluded.user_id,
        state = CASE WHEN w.state <> 'closed' THEN w.state
                     WHEN w.outcome IN ('baseline', 'dismissed') THEN 'closed' ELSE 'waiting' END,
        paid_at = CASE WHEN w.outcome IN ('left', 'gone') THEN excluded.paid_at ELSE w.paid_at END,
        grace_until = CASE WHEN w.state = 'closed' OR excluded.reversed_at IS NOT NULL THEN excluded.grace_until ELSE w.grace_until END,
        due_at = CASE WHEN w.state = 'closed' AND w.outcome IN ('baseline', 'dismissed') THEN NULL ELSE now() END,
        outcome = CASE WHEN w.outcome IN ('baseline', 'dismissed') THEN w.outcome END,
        closed_at = CASE WHEN w.outcome IN ('baseline', 'dismissed') THEN w.closed_at END,
        touched_at = excluded.touched_at,
        reversed_at = coalesce(w.reversed_at, excluded.reversed_at),
        plan_id = excluded.plan_id, method = excluded.method, amount = excluded.amount, currency = excluded.currency,
        failures = 0
    RETURNING 1
), theirs AS MATERIALIZED (
    SELECT w.payment_id, s.at, s.granted_at, s.freed
    FROM stirred s
    CROSS JOIN LATERAL (SELECT w.payment_id FROM paidwatch.watch w WHERE w.user_id = s.user_id AND w.state = 'gap' OFFSET 0) w
    UNION
    SELECT p.payment_id, s.at, s.granted_at, s.freed
    FROM stirred s
    CROSS JOIN LATERAL (SELECT p.payment_id FROM paidwatch.payments p WHERE p.user_id = s.user_id OFFSET 0) p
    WHERE s.granted_at IS NOT NULL OR s.freed
), woken AS (
    -- Who waits is judged early only when access may have come: another payment changes nothing before the grace period ends.
    -- What was activated a moment ago and is inactive again was overwritten, or ended on purpose: after a new grace period
    -- that is judged too.
    UPDATE paidwatch.watch w SET touched_at = greatest(w.touched_at, t.at), failures = 0, outcome = NULL, closed_at = NULL,
        state = CASE WHEN w.state = 'closed' THEN 'waiting' ELSE w.state END,
        due_at = CASE WHEN w.outcome IN ('activated', 'fixed') THEN t.at + (w.grace_until - w.paid_at) ELSE now() END,
        grace_until = CASE WHEN w.outcome IN ('activated', 'fixed') THEN t.at + (w.grace_until - w.paid_at) ELSE w.grace_until END
    FROM theirs t
    WHERE w.payment_id = ANY (ARRAY(SELECT k.payment_id FROM theirs k)) AND w.payment_id = t.payment_id AND NOT EXISTS (SELECT FROM noted n WHERE n.payment_id = w.payment_id) AND (
        w.state = 'gap' OR w.state = 'waiting' AND t.granted_at IS NOT NULL OR w.outcome = 'superseded' AND t.freed
        OR w.outcome IN ('activated', 'fixed') AND w.closed_at > now() - interval '1 hour' AND t.granted_at > w.settled_at
            AND EXISTS (SELECT FROM paidwatch.subscribers u
                        WHERE u.user_id = w.user_id AND (u.status_active IS FALSE OR u.revoked_at IS NOT NULL)))
    RETURNING 1
), doubted AS (
    -- Whoever was activated by paidwatch and now has an event may have been activated by the application too, and one of whom that was
    -- told may have been put right: see double.sql.
    UPDATE paidwatch.activation a SET look_at = now()
    WHERE a.activation_id = ANY (ARRAY(
        SELECT k.activation_id FROM stirred s
        CROSS JOIN LATERAL (
            SELECT k.activation_id FROM paidwatch.activation k
            WHERE k.user_id = s.user_id AND k.state = 'done' AND CASE WHEN k.doubled_at IS NULL THEN s.told ELSE EXISTS (
                SELECT FROM paidwatch.alert d WHERE d.activation_id = k.activation_id AND d.kind = 'double_activation' AND d.state <> 'resolved') END
            OFFSET 0
        ) k
        WHERE s.granted_at IS NOT NULL))
), unread AS (
    -- What a row of the log says is read by the one who decides: see claims.sql.
    INSERT INTO paidwatch.unread (log_id, noted_at) SELECT t.ref, min(t.at) FROM taken t WHERE t.kind = 'W' AND t.ref IS NOT NULL GROUP BY t.ref
    ON CONFLICT (log_id) DO NOTHING
), stories AS (
    -- Money that only webhooks told of may have its payment now, or its activation. Nothing is looked up while there is no such story.
    UPDATE paidwatch.claim c SET due_at = now()
    FROM (
        SELECT k.method, k.reference FROM noted n
        CROSS JOIN LATERAL (SELECT k.method, k.reference FROM paidwatch.claim k WHERE k.state = 'gap' AND k.reference = n.reference OFFSET 0) k
        WHERE (SELECT true FROM paidwatch.claim g WHERE g.state = 'gap' LIMIT 1)
        UNION
        -- The application may have kept another id of the same payment than the one that the story is filed under.
        SELECT k.method, k.reference FROM noted n
        CROSS JOIN LATERAL (
            SELECT k.method, k.reference FROM paidwatch.reading_name m JOIN paidwatch.reading x ON x.log_id = m.log_id
            JOIN paidwatch.claim k ON k.method = x.method AND k.reference = x.reference
            WHERE m.name = n.reference AND k.state = 'gap' OFFSET 0
        ) k
        WHERE (SELECT true FROM paidwatch.claim g WHERE g.state = 'gap' LIMIT 1)
        UNION
        SELECT k.method, k.reference FROM stirred s
        CROSS JOIN LATERAL (SELECT k.method, k.reference FROM paidwatch.claim k WHERE k.state = 'gap' AND k.user_id = s.user_id OFFSET 0) k
        WHERE s.granted_at IS NOT NULL AND (SELECT true FROM paidwatch.claim g WHERE g.state = 'gap' LIMIT 1)
    ) k
    -- Once more: whoever held it may have closed it, and nobody looks at what is closed.
    WHERE c.method = k.method AND c.reference = k.reference AND c.state = 'gap'
)
SELECT (SELECT count(*) FROM taken) AS taken, (SELECT count(*) FROM watched) AS watched, (SELECT count(*) FROM woken) AS woken,
    pg_snapshot_xmax(s.snapshot)::text AS xmax, ARRAY(SELECT x::text FROM pg_snapshot_xip(s.snapshot) AS x) AS xip,
    (SELECT min(at) FROM taken) AS oldest, clock_timestamp() AS now,
    -- Customers who wait for it look again; see tell_customers.
    CASE WHEN EXISTS (SELECT FROM taken) AND pg_notification_queue_usage() < 0.5 THEN
        CASE WHEN NOT pg_try_advisory_xact_lock(paidwatch.customers()) THEN pg_notify('paidwatch_customers', '') END END AS told
FROM (SELECT pg_current_snapshot() AS snapshot) s;

-- name: watch_paid
-- Watches for paid payments that have none: $1 look-back, $2 methods, $3 graces, $4 grace, $5 since when payments are news
-- (NULL: all are). What is older is history, told in one digest. Returns how many, and how many of them are history.
WITH found AS (
    INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, due_at, plan_id, method, amount, currency)
    SELECT p.payment_id, p.user_id, 'waiting', CASE WHEN p.at < $5::timestamptz AND p.at + p.grace <= now() THEN 'baseline' ELSE 'reconcile' END,
        p.at, now(), p.at + p.grace,
        CASE WHEN p.at < $5::timestamptz AND p.at + p.grace <= now() THEN NULL ELSE p.at + p.grace END, p.plan_id, p.method, p.amount, p.currency
    FROM (
        SELECT p.*, least(p.settled_at, now()) AS at, coalesce(g.span, $4::interval) AS grace
        FROM paidwatch.payments p LEFT JOIN unnest($2::text[], $3::interval[]) AS g (method, span) ON lower(g.method) = lower(p.method)
        WHERE p.paid AND p.settled_at >= now() - $1::interval
    ) p
    WHERE NOT EXISTS (SELECT FROM paidwatch.watch w WHERE w.payment_id = p.payment_id)
    ON CONFLICT (payment_id) DO NOTHING
    RETURNING source
)
SELECT count(*) AS found, count(*) FILTER (WHERE source = 'baseline') AS history FROM found;

-- name: wake_gaps
-- Judges every open gap anew: after a blind span its end may have gone unnoticed.
UPDATE paidwatch.watch SET due_at = now() WHERE state = 'gap' AND due_at IS NULL;
