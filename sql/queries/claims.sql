-- name: detection_due
-- Whether there is anything to read or to judge.
SELECT EXISTS (SELECT FROM paidwatch.unread u WHERE NOT u.history) AS unread,
    EXISTS (SELECT FROM paidwatch.claim c WHERE c.due_at <= now())
        OR EXISTS (SELECT FROM paidwatch.alert a WHERE a.remind_at <= now() AND a.reference IS NOT NULL) AS claims;

-- name: take_unread
-- Takes rows of the log that are to be read, with what they say. $1 most, $2 whether those from before the first look are meant.
WITH taken AS MATERIALIZED (
    DELETE FROM paidwatch.unread WHERE ctid = ANY (ARRAY(
        SELECT u.ctid FROM paidwatch.unread u WHERE u.history = $2::boolean LIMIT $1::integer FOR UPDATE SKIP LOCKED))
    RETURNING log_id, noted_at
)
SELECT t.log_id, t.noted_at, lower(coalesce(w.method, '')) AS method, w.reference, w.user_id::text AS user_id, w.status, w.failed, w.error,
    w.valid, w.data
FROM taken t JOIN paidwatch.webhook_rows(ARRAY(SELECT k.log_id FROM taken k)) w ON w.webhook_id = t.log_id;

-- name: write_readings
-- What rows of the log say; a row that is read again keeps its time. $1 rows, $2 methods, $3 references, $4 orders, $5 statuses, $6 the
-- providers' words, $7 signatures, $8 failed, $9 handled, $10 errors, $11 users, $12 plans, $13 amounts, $14 currencies, $15 repeated,
-- $16 problems, $17 when, $18 since when there is the money, as the order's id says or else the provider.
INSERT INTO paidwatch.reading AS r (log_id, method, reference, order_id, status, said, valid, failed, handled, error, user_id, plan_id, amount,
    currency, repeated, problem, at, made_at)
SELECT v.log_id, v.method, v.reference, v.order_id, v.status, v.said, v.valid, v.failed, v.handled, v.error, paidwatch.user_of(v.user_id),
    v.plan_id, v.amount, v.currency, v.repeated, v.problem, v.at, v.made_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::boolean[], $9::boolean[], $10::text[],
        $11::text[], $12::text[], $13::numeric[], $14::text[], $15::boolean[], $16::text[], $17::timestamptz[], $18::timestamptz[])
    AS v (log_id, method, reference, order_id, status, said, valid, failed, handled, error, user_id, plan_id, amount, currency, repeated,
        problem, at, made_at)
ON CONFLICT (log_id) DO UPDATE SET method = excluded.method, reference = excluded.reference, order_id = excluded.order_id,
    status = excluded.status, said = excluded.said, valid = excluded.valid, failed = excluded.failed, handled = excluded.handled,
    error = excluded.error, user_id = excluded.user_id, plan_id = excluded.plan_id, amount = excluded.amount, currency = excluded.currency,
    repeated = excluded.repeated, problem = excluded.problem, made_at = excluded.made_at, read_at = now();

-- name: write_reading_names
-- The further ids that rows name a payment by. $1 rows, $2 ids, in pairs.
INSERT INTO paidwatch.reading_name (log_id, name) SELECT v.log_id, v.name FROM unnest($1::text[], $2::text[]) AS v (log_id, name)
ON CONFLICT DO NOTHING;

-- name: stir_claims
-- What was just read opens stories or wakes those that it concerns, and the gaps of the payments that it names. $1 rows, $2 methods,
-- $3 graces, $4 grace, $5 whether it is history (then nothing is due), $6 the calm that ends what is counted, $7 the least silence.
WITH fresh AS MATERIALIZED (
    SELECT r.*, CASE WHEN r.valid IS FALSE THEN '' ELSE coalesce(r.reference, '?') END AS key,
        r.valid IS FALSE OR k.stuck OR r.valid AND r.status IN ('paid', 'underpaid') AS tells, k.stuck
    FROM paidwatch.reading r
    -- What paidwatch itself could not pass on is told as that: forward_failed.
    CROSS JOIN LATERAL (SELECT r.failed AND NOT EXISTS (SELECT FROM paidwatch.webhook d WHERE d.log_id = r.log_id AND d.forward_state = 'dead') AS stuck) k
    WHERE r.log_id = ANY ($1::text[])
), grouped AS MATERIALIZED (
    SELECT f.method, f.key, min(f.at) FILTER (WHERE f.tells) AS first_at, max(f.at) AS last_at, bool_or(f.tells) AS tells,
        (array_agg(f.user_id) FILTER (WHERE f.valid AND f.user_id IS NOT NULL))[1] AS user_id,
        coalesce(min(f.at) FILTER (WHERE f.tells), max(f.at))
            + coalesce(($3::interval[])[array_position($2::text[], f.method)], $4::interval) AS grace_until
    FROM fresh f WHERE f.key <> '?' OR f.stuck GROUP BY f.method, f.key
), opened AS (
    INSERT INTO paidwatch.claim AS c (method, reference, user_id, due_at, opened_at, grace_until, history)
    SELECT g.method, g.key, CASE WHEN g.key NOT IN ('', '?') THEN g.user_id END,
        CASE WHEN NOT $5::boolean THEN CASE WHEN g.key IN ('', '?') THEN now() ELSE g.grace_until END END, g.first_at, g.grace_until, $5::boolean
    FROM grouped g WHERE g.tells
    ON CONFLICT (method, reference) DO UPDATE SET
        -- A person's word about one payment holds; about what is counted it holds until that was over for a while.
        state = CASE WHEN c.state <> 'closed' THEN c.state
            WHEN c.outcome IN ('baseline', 'dismissed', 'expired') AND (c.reference NOT IN ('', '?') OR excluded.opened_at < c.closed_at + $6::interval)
            THEN 'closed' ELSE 'waiting' END,
        opened_at = CASE WHEN c.state = 'closed' THEN excluded.opened_at ELSE least(c.opened_at, excluded.opened_at) END,
        grace_until = CASE WHEN c.state = 'closed' THEN excluded.grace_until ELSE c.grace_until END,
        due_at = CASE WHEN c.state = 'closed' AND c.outcome IN ('baseline', 'dismissed', 'expired')
                AND (c.reference NOT IN ('', '?') OR excluded.opened_at < c.closed_at + $6::interval) THEN NULL
            WHEN excluded.history THEN c.due_at
            WHEN c.state = 'closed' THEN excluded.due_at
            WHEN c.reference IN ('', '?') AND c.state = 'gap' THEN c.due_at
            WHEN c.state = 'gap' THEN now() ELSE c.due_at END,
        outcome = CASE WHEN c.outcome IN ('baseline', 'dismissed', 'expired')
            AND (c.reference NOT IN ('', '?') OR excluded.opened_at < c.closed_at + $6::interval) THEN c.outcome END,
        user_id = coalesce(c.user_id, excluded.user_id), failures = 0
    RETURNING c.method, c.reference, c.state
), woken AS (
    UPDATE paidwatch.claim c SET due_at = now() FROM grouped g
    WHERE NOT g.tells AND c.method = g.method AND c.reference = g.key AND c.state = 'gap'
), heard AS (
    -- A valid webhook ends its method's silence, and begins the next.
    INSERT INTO paidwatch.claim AS c (method, reference, due_at, opened_at, grace_until)
    SELECT f.method, '!', CASE WHEN NOT $5::boolean THEN max(f.at) + $7::interval END, max(f.at), max(f.at)
    FROM fresh f WHERE f.valid GROUP BY f.method
    ON CONFLICT (method, reference) DO UPDATE SET opened_at = greatest(c.opened_at, excluded.opened_at),
        due_at = CASE WHEN c.state = 'gap' THEN now() ELSE coalesce(excluded.due_at, c.due_at) END,
        state = CASE WHEN c.state = 'gap' THEN 'gap' ELSE 'waiting' END, outcome = NULL, closed_at = NULL
), named AS MATERIALIZED (
    SELECT k.payment_id FROM (SELECT DISTINCT x.reference FROM (
        SELECT f.reference FROM fresh f UNION ALL SELECT f.order_id FROM fresh f
        UNION ALL SELECT n.name FROM paidwatch.reading_name n WHERE n.log_id = ANY ($1::text[])) x WHERE x.reference IS NOT NULL) d
    CROSS JOIN LATERAL (SELECT p.payment_id FROM paidwatch.payments p WHERE p.reference = d.reference OFFSET 0) k
), stirred AS (
    -- What the log says may confirm a payment, or be the cause of its gap.
    UPDATE paidwatch.watch w SET due_at = now() WHERE w.payment_id = ANY (ARRAY(SELECT n.payment_id FROM named n)) AND w.state = 'gap' AND w.due_at IS NULL
    RETURNING 1
)
SELECT (SELECT count(*) FROM opened)::integer AS opened, (SELECT count(*) FROM stirred)::integer AS stirred,
    ARRAY(SELECT DISTINCT o.method || ' ' || o.reference FROM opened o WHERE o.state = 'gap' AND o.reference IN ('', '?')) AS growing;

-- name: grow_streams
-- Stories that are counted have grown: said where a message can be edited, not more often than every $1. $2 methods and references.
WITH grown AS (
    UPDATE paidwatch.alert a SET revision = a.revision + 1
    WHERE a.state <> 'resolved' AND a.reference IN ('', '?') AND a.method || ' ' || a.reference = ANY ($2::text[])
    RETURNING a.alert_id, a.revision
)
UPDATE paidwatch.delivery x SET
    -- One under way is touched as well: whoever records its end waits, and sees that there is more to say.
    due_at = CASE WHEN x.edits AND x.lease IS NULL THEN coalesce(x.due_at, greatest(now(), x.told_at + $1::interval, x.not_before)) ELSE x.due_at END,
    told_revision = CASE WHEN x.edits OR x.due_at IS NOT NULL OR x.lease IS NOT NULL THEN x.told_revision ELSE g.revision END
FROM grown g
WHERE x.alert_id = g.alert_id AND (x.told_revision > 0 OR x.lease IS NOT NULL) AND x.dead_at IS NULL;

-- name: note_unread
-- Rows of the log that no trigger told of, or whose end none told of. $1 look-back, $2 whether this is the first look ever: then what is
-- found is history.
WITH found AS (
    INSERT INTO paidwatch.unread AS u (log_id, noted_at, history)
    SELECT w.webhook_id, least(w.created_at, now()), $2::boolean
    FROM paidwatch.webhooks_since(now() - $1::interval) w
    LEFT JOIN paidwatch.reading r ON r.log_id = w.webhook_id
    WHERE r.log_id IS NULL OR r.failed <> w.failed OR r.valid IS DISTINCT FROM w.valid
    ON CONFLICT (log_id) DO NOTHING
    RETURNING 1
)
SELECT count(*)::integer AS found FROM found;

-- name: log_is_read
-- The past of the log was taken as it is; from now on everything is news.
UPDATE paidwatch.installation SET log_read_at = now() WHERE log_read_at IS NULL;

-- name: log_read_at
-- When the log was first looked at; NULL: never.
SELECT i.log_read_at FROM paidwatch.installation i;

-- name: due_claims
-- Claims what is due, for the transaction that will write the verdicts. $1 most.
-- What the application was asked to activate over HTTP waits for the end of that, which says whose work it is.
WITH asked AS MATERIALIZED (
    SELECT a.method, a.reference, greatest(a.due_at, now()) + interval '2 seconds' AS until FROM paidwatch.activation a
    WHERE a.due_at IS NOT NULL AND a.state = 'calling' AND a.reference IS NOT NULL
), later AS (
    UPDATE paidwatch.claim c SET due_at = k.until FROM asked k WHERE c.method = k.method AND c.reference = k.reference AND c.due_at <= now()
)
SELECT c.method, c.reference, c.state, now() AS now FROM paidwatch.claim c
WHERE c.due_at <= now() AND NOT EXISTS (SELECT FROM asked k WHERE k.method = c.method AND k.reference = c.reference)
ORDER BY c.due_at LIMIT $1::integer FOR UPDATE OF c SKIP LOCKED;

-- name: history_claims
-- Stories of the past that are to be judged. $1 most.
SELECT c.method, c.reference, c.state, now() AS now FROM paidwatch.claim c
WHERE c.history AND c.state = 'waiting' ORDER BY c.method, c.reference LIMIT $1::integer FOR UPDATE;

-- name: open_claims
-- What is a gap now, or is to be judged; of one user only where $2 names him. $1 most.
SELECT c.method, c.reference, c.state, now() AS now FROM paidwatch.claim c
WHERE (c.state = 'gap' OR c.due_at <= now()) AND ($2::text IS NULL OR c.user_id = $2::text::paidwatch.user_key)
ORDER BY c.opened_at LIMIT $1::integer;

-- name: claim_facts
-- What is known about references: $1 methods, $2 references, in pairs. Row by row, by key (OFFSET 0). What signed webhooks say counts
-- before what others say.
SELECT k.method, k.reference, c.opened_at, c.grace_until, r.paid_at, r.short_at, r.reversed_at, r.failed_at, r.error, r.handled_at,
    r.repeated, r.problem, r.webhooks, r.first_at, r.last_at, coalesce(p.user_id, r.user_id)::text AS claim_user, coalesce(p.plan_id, r.plan_id) AS claim_plan,
    r.amount AS claim_amount, r.currency AS claim_currency, p.payment_id::text AS payment_id, p.phase,
    u.user_id IS NOT NULL AS user_exists, u.user_id::text AS user_id, coalesce(u.label, u.name) AS label, u.enabled, u.admin,
    u.status AS user_status, u.status_active, u.tier, u.tier_rank, u.tier_watched, paidwatch.readable(u.paid_until) AS paid_until, u.paid_until_watched,
    paidwatch.readable(u.revoked_at) AS revoked_at,
    pl.plan_id IS NOT NULL AS plan_exists, pl.plan_id, pl.name AS plan_name, (pl.prices ->> r.currency)::numeric AS price, pl.rank AS plan_rank,
    pl.free AS plan_free, pl.duration,
    coalesce(paidwatch.readable(e.activated_at),
        (SELECT max(a.done_at) FROM paidwatch.activation a WHERE a.names @> ARRAY[k.reference] AND a.reference IS NOT NULL AND a.state = 'done')) AS activated_at
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (method, reference, place)
JOIN LATERAL (SELECT c.* FROM paidwatch.claim c WHERE c.method = k.method AND c.reference = k.reference OFFSET 0) c ON true
CROSS JOIN LATERAL (
    SELECT min(x.at) FILTER (WHERE x.valid AND x.status = 'paid') AS paid_at,
        max(x.at) FILTER (WHERE x.valid AND x.status = 'underpaid') AS short_at,
        max(x.at) FILTER (WHERE x.valid AND x.status = 'reversed') AS reversed_at,
        max(x.at) FILTER (WHERE x.stuck AND x.valid IS NOT FALSE) AS failed_at,
        (array_agg(x.error ORDER BY x.at DESC) FILTER (WHERE x.stuck AND x.valid IS NOT FALSE))[1] AS error,
        max(x.at) FILTER (WHERE x.handled AND NOT x.failed AND x.valid IS NOT FALSE) AS handled_at,
        coalesce(bool_or(x.repeated) FILTER (WHERE x.valid), false) AS repeated,
        coalesce((array_agg(x.problem ORDER BY x.at DESC) FILTER (WHERE x.valid))[1], '') AS problem,
        count(*)::integer AS webhooks, min(x.at) AS first_at, max(x.at) AS last_at,
        (array_agg(x.user_id ORDER BY x.valid IS TRUE DESC, x.at DESC) FILTER (WHERE x.valid IS NOT FALSE AND x.user_id IS NOT NULL))[1] AS user_id,
        (array_agg(x.plan_id ORDER BY x.valid IS TRUE DESC, x.at DESC) FILTER (WHERE x.valid IS NOT FALSE AND x.plan_id IS NOT NULL))[1] AS plan_id,
        (array_agg(x.order_id ORDER BY x.valid IS TRUE DESC, x.at DESC) FILTER (WHERE x.valid IS NOT FALSE AND x.order_id IS NOT NULL))[1] AS order_id,
        (array_agg(x.amount ORDER BY x.at DESC) FILTER (WHERE x.valid AND x.amount IS NOT NULL))[1] AS amount,
        (array_agg(x.currency ORDER BY x.at DESC) FILTER (WHERE x.valid AND x.amount IS NOT NULL))[1] AS currency,
        array_agg(x.log_id) FILTER (WHERE x.valid IS NOT FALSE) AS rows
    FROM (
        SELECT x.*, x.failed AND NOT EXISTS (SELECT FROM paidwatch.webhook d WHERE d.log_id = x.log_id AND d.forward_state = 'dead') AS stuck
        FROM paidwatch.reading x WHERE x.reference = k.reference AND x.method = k.method
    ) x
) r
CROSS JOIN LATERAL (
    SELECT ARRAY(SELECT DISTINCT n.name FROM paidwatch.reading_name n WHERE n.log_id = ANY (r.rows)) AS names
) a
LEFT JOIN LATERAL (
    -- The provider's id names the row, or the order does, or another id of the same payment.
    SELECT p.payment_id, p.user_id, p.plan_id, p.phase FROM paidwatch.payments p
    WHERE p.reference = ANY (ARRAY[k.reference, r.order_id] || a.names)
    ORDER BY p.paid DESC, p.payment_id DESC LIMIT 1
) p ON true
LEFT JOIN LATERAL (SELECT u.* FROM paidwatch.subscribers u WHERE u.user_id = coalesce(p.user_id, r.user_id) OFFSET 0) u ON true
LEFT JOIN paidwatch.plans pl ON pl.plan_id = coalesce(p.plan_id, r.plan_id)
LEFT JOIN LATERAL (
    -- An activation of the user since is this one's, unless it names another payment that has a row.
    SELECT max(v.created_at) AS activated_at
    FROM paidwatch.events v
    CROSS JOIN LATERAL (SELECT paidwatch.event_data(v.data) AS d) d
    CROSS JOIN LATERAL (
        SELECT array_remove(ARRAY[d.d ->> 'payment_reference', d.d ->> 'payment_id', d.d ->> 'transaction_id'], NULL) AS refs
    ) n
    WHERE v.user_id = coalesce(p.user_id, r.user_id) AND v.class = 'activated' AND coalesce(r.paid_at, r.short_at, r.failed_at) IS NOT NULL
        AND (n.refs && array_remove(ARRAY[k.reference, r.order_id, p.payment_id::text] || a.names, NULL)
            OR NOT r.repeated AND v.created_at >= coalesce(r.paid_at, r.short_at, r.failed_at) - interval '5 minutes'
                AND NOT EXISTS (SELECT FROM paidwatch.payments o WHERE o.user_id = v.user_id
                    AND (o.reference = ANY (n.refs) OR o.payment_id::text = ANY (n.refs))))
) e ON true
ORDER BY k.place;

-- name: told_facts
-- What is known about money that only signed webhooks tell of, in the columns of paidwatch.facts: $1 methods, $2 references, in pairs.
-- Where signed webhooks name two users, or two plans, it is not known whose it is, or what for.
SELECT now() AS now, k.method AS told_method, k.reference AS told_reference, '' AS payment_id, r.paid_at IS NOT NULL AS payment_exists,
    r.user_id::text AS user_id, r.plan_id, r.amount, r.currency, k.method, k.reference, r.said AS status, 'paid' AS phase, r.made_at AS created_at,
    u.user_id IS NOT NULL AS user_exists, coalesce(u.label, u.name) AS label, u.enabled, u.admin, u.status AS user_status, u.status_active,
    u.tier, u.tier_rank, u.tier_watched, paidwatch.readable(u.paid_until) AS paid_until, u.paid_until_watched, paidwatch.readable(u.revoked_at) AS revoked_at,
    pl.plan_id IS NOT NULL AS plan_exists, pl.name AS plan_name, (pl.prices ->> r.currency)::numeric AS price, pl.rank AS plan_rank,
    pl.free AS plan_free, pl.duration, t.since AS paid_at, greatest(c.grace_until, t.paid_at + (c.grace_until - c.opened_at)) AS grace_until,
    NULL::timestamptz AS touched_at, b.reversed_at, NULL::timestamptz AS settled_at,
    paidwatch.readable(e.activated_at) AS activated_at, paidwatch.readable(e.granted_at) AS granted_at, NULL::timestamptz AS failed_at,
    NULL::text AS failed_reason, paidwatch.readable(e.acted_at) AS acted_at, e.act,
    (SELECT max(a.done_at) FROM paidwatch.activation a WHERE a.names && a0.names AND a.reference IS NOT NULL AND a.state = 'done') AS ledger_at,
    (SELECT max(a.undone_at) FROM paidwatch.activation a WHERE a.names && a0.names AND a.reference IS NOT NULL AND a.state = 'undone') AS undone_at,
    n.payment_id AS newer_payment_id, n.plan_id AS newer_plan_id, n.rank AS newer_rank, false AS other_paid,
    r.last_at AS webhook_at, r.last_said AS webhook_status, false AS webhook_failed, NULL::text AS webhook_error, true AS webhook_valid,
    r.paid_at IS NOT NULL AND NOT r.repeated AND b.reversed_at IS NULL AS webhook_signed, r.paid_at AS webhook_paid_at, r.moving_at AS webhook_moving_at,
    r.short_at AS webhook_short_at, b.reversed_at AS webhook_reversed_at, true AS webhooks_watched,
    an.status AS answer_status, an.said AS answer_said, an.amount AS answer_amount, an.currency AS answer_currency, an.answered_at
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (method, reference, place)
JOIN LATERAL (SELECT c.* FROM paidwatch.claim c WHERE c.method = k.method AND c.reference = k.reference OFFSET 0) c ON true
CROSS JOIN LATERAL (
    SELECT min(x.at) FILTER (WHERE x.status = 'paid') AS paid_at, min(x.made_at) AS made_at, max(x.at) AS last_at,
        max(x.at) FILTER (WHERE x.status = 'reversed') AS reversed_at, max(x.at) FILTER (WHERE x.status = 'underpaid') AS short_at,
        max(x.at) FILTER (WHERE x.status IN ('pending', 'settling')) AS moving_at, coalesce(bool_or(x.repeated), false) AS repeated,
        CASE WHEN count(DISTINCT x.user_id) = 1 THEN (array_agg(x.user_id) FILTER (WHERE x.user_id IS NOT NULL))[1] END AS user_id,
        CASE WHEN count(DISTINCT x.plan_id) = 1 THEN max(x.plan_id) END AS plan_id,
        (array_agg(x.said ORDER BY x.at) FILTER (WHERE x.status = 'paid'))[1] AS said, (array_agg(x.said ORDER BY x.at DESC))[1] AS last_said,
        (array_agg(x.amount ORDER BY x.at DESC) FILTER (WHERE x.status = 'paid' AND x.amount IS NOT NULL))[1] AS amount,
        (array_agg(x.currency ORDER BY x.at DESC) FILTER (WHERE x.status = 'paid' AND x.amount IS NOT NULL))[1] AS currency
    FROM paidwatch.reading x WHERE x.reference = k.reference AND x.method = k.method AND x.valid
) r
-- Whatever happened since the order may have made it good: a webhook may come, or come again, days later.
CROSS JOIN LATERAL (SELECT s.paid_at, least(s.paid_at, r.made_at) AS since FROM (SELECT coalesce(r.paid_at, c.opened_at) AS paid_at) s) t
CROSS JOIN LATERAL (SELECT paidwatch.told_names(k.method, k.reference) AS names) a0
CROSS JOIN LATERAL (
    -- Money that went back may be told under another of its names.
    SELECT max(x.at) AS reversed_at FROM paidwatch.reading x WHERE x.valid AND x.status = 'reversed' AND x.log_id = ANY (ARRAY(
        SELECT y.log_id FROM paidwatch.reading y WHERE y.reference = ANY (a0.names)
        UNION ALL SELECT y.log_id FROM paidwatch.reading y WHERE y.order_id = ANY (a0.names)
        UNION ALL SELECT y.log_id FROM paidwatch.reading_name y WHERE y.name = ANY (a0.names)))
) b
LEFT JOIN LATERAL (SELECT u.* FROM paidwatch.subscribers u WHERE u.user_id = r.user_id OFFSET 0) u ON true
LEFT JOIN paidwatch.plans pl ON pl.plan_id = r.plan_id
-- From the beginning: a webhook that is sent again after a year tells of money that was made good then.
LEFT JOIN LATERAL paidwatch.event_evidence(r.user_id, a0.names, t.since, '-infinity') e ON true
LEFT JOIN LATERAL (
    -- A newer payment of the user, with a row or without.
    (SELECT p.payment_id::text AS payment_id, p.plan_id, pl2.rank
     FROM paidwatch.payments p LEFT JOIN paidwatch.watch w ON w.payment_id = p.payment_id LEFT JOIN paidwatch.plans pl2 ON pl2.plan_id = p.plan_id
     WHERE p.user_id = r.user_id AND p.paid AND w.reversed_at IS NULL AND p.settled_at >= t.paid_at - interval '1 day'
        AND coalesce(w.paid_at, p.settled_at) > t.paid_at
     ORDER BY pl2.rank DESC NULLS LAST LIMIT 1)
    UNION ALL
    (SELECT x.reference, x.plan_id, pl3.rank
     FROM paidwatch.reading x LEFT JOIN paidwatch.plans pl3 ON pl3.plan_id = x.plan_id
     WHERE x.user_id = r.user_id AND x.at > t.paid_at AND x.valid AND x.status = 'paid' AND (x.method, x.reference) <> (k.method, k.reference)
        -- The same money may be told under another of its names.
        AND x.reference <> ALL (a0.names) AND NOT EXISTS (SELECT FROM paidwatch.reading_name m WHERE m.log_id = x.log_id AND m.name = ANY (a0.names))
        AND NOT EXISTS (SELECT FROM paidwatch.reading b WHERE b.reference = x.reference AND b.method = x.method AND b.valid AND b.status = 'reversed')
     ORDER BY pl3.rank DESC NULLS LAST LIMIT 1)
    LIMIT 1
) n ON true
LEFT JOIN paidwatch.answer an ON an.method = k.method AND an.reference = k.reference AND an.status IS NOT NULL
ORDER BY k.place;

-- name: lock_story
-- Locks what is judged: the story before the ledger and before answers, everywhere in this order. $1 method, $2 reference.
SELECT c.state FROM paidwatch.claim c WHERE c.method = $1::text AND c.reference = $2::text FOR UPDATE;

-- name: stream_facts
-- What is known about stories that are counted: $1 methods, $2 references, in pairs.
SELECT k.method, k.reference, c.opened_at, s.count, s.last_at, s.error
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (method, reference, place)
JOIN paidwatch.claim c ON c.method = k.method AND c.reference = k.reference
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS count, max(x.at) AS last_at, (array_agg(x.error ORDER BY x.at DESC) FILTER (WHERE x.error <> ''))[1] AS error
    FROM paidwatch.reading x
    WHERE x.method = k.method AND x.at >= c.opened_at
        AND CASE WHEN k.reference = '' THEN x.valid IS FALSE ELSE x.failed AND x.valid IS NOT FALSE AND x.reference IS NULL
            AND NOT EXISTS (SELECT FROM paidwatch.webhook d WHERE d.log_id = x.log_id AND d.forward_state = 'dead') END
) s
ORDER BY k.place;

-- name: silence_facts
-- How often valid webhooks of these methods ($1) come, and the payments since the last: of the newest ones by their keys where
-- those are numbers, so that no table is read as a whole.
SELECT k.method, '!' AS reference, c.opened_at, l.last_at, g.pauses, g.usual, a.asked_at, a.asked
FROM unnest($1::text[]) WITH ORDINALITY AS k (method, place)
JOIN paidwatch.claim c ON c.method = k.method AND c.reference = '!'
CROSS JOIN LATERAL (SELECT max(x.at) AS last_at FROM paidwatch.reading x WHERE x.method = k.method AND x.valid) l
CROSS JOIN LATERAL (
    SELECT count(p.pause)::integer AS pauses, percentile_cont(0.99) WITHIN GROUP (ORDER BY p.pause) AS usual
    FROM (SELECT x.at - lag(x.at) OVER (ORDER BY x.at) AS pause FROM paidwatch.reading x
          WHERE x.method = k.method AND x.valid AND x.at >= l.last_at - interval '7 days') p
) g
CROSS JOIN LATERAL (
    SELECT min(p.created_at) AS asked_at, count(*)::integer AS asked FROM (
        SELECT q.created_at, q.method FROM paidwatch.payments q ORDER BY q.payment_id DESC
        LIMIT CASE WHEN (SELECT t.typcategory = 'N' FROM pg_type t WHERE t.oid = 'paidwatch.payment_key'::regtype) THEN 10000 END
    ) p WHERE lower(p.method) = k.method AND p.created_at > l.last_at AND p.created_at <= now()
) a
ORDER BY k.place;

-- name: wake_silences
-- Methods that said nothing when they were last looked at: payments may have been created since. Part of reconciliation's look.
UPDATE paidwatch.claim c SET due_at = now()
WHERE c.reference = '!' AND c.state = 'waiting' AND c.due_at IS NULL AND c.opened_at >= now() - interval '7 days'
    AND (c.outcome IN ('dismissed', 'expired')) IS NOT TRUE
RETURNING c.method;

-- name: wake_claims
-- Judges every open story anew: after a blind span its end may have gone unnoticed.
UPDATE paidwatch.claim SET due_at = now() WHERE state = 'gap' AND reference NOT IN ('', '?');

-- name: postpone_claims
-- $1 methods, $2 references, $3 until when (NULL: until something happens). Nobody is reminded of what is waited for.
WITH later AS (
    UPDATE paidwatch.claim c SET due_at = v.until, history = false, failures = 0
    FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS v (method, reference, until)
    WHERE c.method = v.method AND c.reference = v.reference AND c.state <> 'closed'
    RETURNING c.method, c.reference, c.due_at
)
UPDATE paidwatch.alert a SET remind_at = k.due_at FROM later k
WHERE a.method = k.method AND a.reference = k.reference AND a.state = 'open' AND a.remind_at < k.due_at;

-- name: postpone_poisoned_claims
-- What cannot be judged: again later, ever more rarely. $1 methods, $2 references.
UPDATE paidwatch.claim c SET failures = failures + 1, due_at = now() + least(interval '1 minute' * power(2, least(failures, 10)), interval '6 hours')
FROM unnest($1::text[], $2::text[]) AS v (method, reference) WHERE c.method = v.method AND c.reference = v.reference;

-- name: open_claim_gaps
-- Opens the alerts of stories, or changes what is said of open ones; a silence that fits speaks for a fresh one. $1 methods, $2 references,
-- $3 kinds, $4 causes, $5 details, $6 severities, $7 first reminder, $8 users, $9 plans, $10 amounts, $11 currencies, $12 next looks,
-- $13 notes (JSON arrays), $14 whether a person may say yes to an activation.
WITH silence AS MATERIALIZED (
    SELECT s.silence_id, s.expires_at, s.user_id, s.plan_id, lower(s.method) AS method, s.kind, s.author
    FROM paidwatch.silence s WHERE s.ended_at IS NULL AND s.expires_at > now()
), marked AS (
    UPDATE paidwatch.claim c SET state = 'gap', kind = g.kind, due_at = g.due_at, user_id = coalesce(paidwatch.user_of(g.user_id), c.user_id),
        history = false, failures = 0
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $8::text[], $9::text[], $10::numeric[], $11::text[],
        $12::timestamptz[], $13::text[], $14::boolean[])
        AS g (method, reference, kind, cause, detail, severity, user_id, plan_id, amount, currency, due_at, notes, proposed)
    WHERE c.method = g.method AND c.reference = g.reference
    RETURNING c.method, c.reference, c.user_id, g.kind, g.cause, g.detail, g.severity, g.plan_id, g.amount, g.currency,
        ARRAY(SELECT jsonb_array_elements_text(g.notes::jsonb)) AS notes, g.proposed
), told AS (
    INSERT INTO paidwatch.alert AS a (kind, reference, user_id, cause, detail, notes, remind_at, severity, plan_id, method, amount, currency,
        error_class, silence_id, proposed)
    SELECT m.kind, m.reference, m.user_id, m.cause, m.detail, m.notes, CASE WHEN s.silence_id IS NULL THEN now() + $7::interval END, m.severity,
        m.plan_id, m.method, m.amount, m.currency, m.cause, s.silence_id, m.proposed
    FROM marked m
    LEFT JOIN LATERAL (
        SELECT s.silence_id FROM silence s
        WHERE (s.user_id IS NULL OR s.user_id = m.user_id) AND (s.plan_id IS NULL OR s.plan_id = m.plan_id)
            AND (s.method IS NULL OR s.method = m.method) AND (s.kind IS NULL OR s.kind = m.kind)
        ORDER BY s.expires_at DESC, s.silence_id LIMIT 1
    ) s ON true
    ON CONFLICT (method, reference) WHERE state <> 'resolved' AND reference IS NOT NULL
    DO UPDATE SET kind = excluded.kind, cause = excluded.cause, detail = excluded.detail, severity = excluded.severity,
        error_class = excluded.error_class, user_id = coalesce(excluded.user_id, a.user_id), plan_id = excluded.plan_id, amount = excluded.amount,
        currency = excluded.currency, look_at = CASE WHEN a.severity <> excluded.severity THEN now() ELSE a.look_at END,
        proposed = excluded.proposed, notes = CASE WHEN cardinality(excluded.notes) > 0 THEN excluded.notes ELSE a.notes END
    RETURNING a.alert_id, a.method, a.reference, a.kind, a.severity, a.silence_id, a.xmax = 0 AS fresh
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
SELECT t.alert_id, t.method, t.reference, t.kind, t.fresh, t.silence_id IS NOT NULL AS silenced FROM told t;

-- name: close_claims
-- Closes stories and resolves what was said about them; a member of an incident is spoken for by it (end_members). $1 methods,
-- $2 references, $3 outcomes, $4 end of the quiet hours, in which what is of low severity says nothing (NULL: it is not quiet). A
-- method's silence is never closed: it waits for the next one.
WITH done AS (
    UPDATE paidwatch.claim c SET state = CASE WHEN c.reference = '!' THEN 'waiting' ELSE 'closed' END, outcome = v.outcome,
        closed_at = CASE WHEN c.reference <> '!' THEN now() END, kind = NULL, history = false, failures = 0, due_at = NULL
    FROM unnest($1::text[], $2::text[], $3::text[]) AS v (method, reference, outcome)
    WHERE c.method = v.method AND c.reference = v.reference AND c.state <> 'closed'
    RETURNING c.method, c.reference, v.outcome
), resolved AS (
    UPDATE paidwatch.alert a SET state = 'resolved', outcome = d.outcome, resolved_at = now(), revision = a.revision + 1,
        remind_at = NULL, escalate_at = NULL, look_at = NULL, acked_until = NULL
    FROM done d WHERE a.method = d.method AND a.reference = d.reference AND a.state <> 'resolved'
    RETURNING a.alert_id, a.method, a.reference, a.kind, a.severity, a.incident_id, a.storm_until, a.outcome
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
SELECT d.method, d.reference, d.outcome, r.alert_id, r.kind, r.incident_id
FROM done d LEFT JOIN resolved r ON r.method = d.method AND r.reference = d.reference;

-- name: remind_claims
-- Looks again at stories whose reminder is due: the verdict is made anew before anything is repeated. $1 most.
UPDATE paidwatch.claim c SET due_at = now()
FROM (SELECT a.method, a.reference FROM paidwatch.alert a
      WHERE a.remind_at <= now() AND a.reference IS NOT NULL ORDER BY a.remind_at LIMIT $1::integer) k
WHERE c.method = k.method AND c.reference = k.reference AND c.state = 'gap' AND c.failures = 0
    AND (c.due_at IS NULL OR c.due_at > now());

-- name: claim_reminders
-- Which of these alerts are due to be told again. $1 alerts.
SELECT a.alert_id, a.opened_at, a.reminders FROM paidwatch.alert a
WHERE a.alert_id = ANY ($1::bigint[]) AND a.state = 'open' AND a.remind_at <= now() FOR UPDATE;

-- name: claims_to_expire
-- Locks stories that are open for too long, before their alerts as everywhere. $1 now, $2 how long, $3 most.
SELECT c.method, c.reference FROM paidwatch.alert a JOIN paidwatch.claim c ON c.method = a.method AND c.reference = a.reference
WHERE a.look_at <= $1::timestamptz AND a.opened_at <= $1::timestamptz - $2::interval AND (a.state = 'open' OR a.acked_until <= $1::timestamptz) AND c.state <> 'closed'
ORDER BY a.look_at LIMIT $3::integer FOR UPDATE OF c, a;

-- name: claims_of_alert
-- Locks the stories that an alert tells, its members' too where it is an incident. $1 alert.
SELECT c.method, c.reference, a.alert_id FROM paidwatch.alert a JOIN paidwatch.claim c ON c.method = a.method AND c.reference = a.reference
WHERE (a.alert_id = $1::bigint OR a.incident_id = $1::bigint) AND a.state <> 'resolved' AND a.reference IS NOT NULL
ORDER BY c.method, c.reference FOR UPDATE OF c;

-- name: purge_readings
-- $1 keep, $2 most rows.
WITH gone AS (
    DELETE FROM paidwatch.reading WHERE log_id IN (
        SELECT r.log_id FROM paidwatch.reading r WHERE r.at < now() - $1::interval ORDER BY r.at LIMIT $2::integer)
    RETURNING 1
)
SELECT count(*) AS removed FROM gone;

-- name: purge_claims
-- $1 keep, $2 most rows.
WITH gone AS (
    DELETE FROM paidwatch.claim c WHERE (c.method, c.reference) IN (
        SELECT k.method, k.reference FROM paidwatch.claim k WHERE k.state = 'closed' AND k.closed_at < now() - $1::interval
        ORDER BY k.closed_at LIMIT $2::integer)
    RETURNING 1
)
SELECT count(*) AS removed FROM gone;
