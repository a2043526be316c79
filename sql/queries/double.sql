-- name: look_for_doubles
-- Activations that are to be looked at, with the first event by which the application itself activated what paidwatch had activated:
-- one that names the same payment, or one that names none within three days, as long as providers repeat webhooks, unless a newer
-- payment of the user explains it. What a person forced may have had such events before; so has what the application was asked for.
-- $1 most.
WITH due AS MATERIALIZED (
    SELECT a.activation_id FROM paidwatch.activation a WHERE a.look_at <= now() ORDER BY a.look_at LIMIT $1::integer FOR UPDATE SKIP LOCKED
), seen AS (
    UPDATE paidwatch.activation a SET look_at = NULL FROM due d WHERE a.activation_id = d.activation_id
    RETURNING a.activation_id, a.payment_id, a.method, a.reference, a.names, a.user_id, a.state, a.strategy, a.forced, a.claimed_at, a.done_at, a.event_id, a.after, a.doubled_at
)
SELECT a.activation_id, a.payment_id::text AS payment_id, a.method AS told_method, a.reference AS told_reference, a.user_id::text AS user_id, a.done_at, a.doubled_at, l.alert_id, l.state AS alert_state,
    coalesce(p.plan_id, t.plan_id) AS plan_id, coalesce(p.method, a.method) AS method, coalesce(p.amount, t.amount) AS amount,
    coalesce(p.currency, t.currency) AS currency, paidwatch.image_moment(a.after, 'paid_until') AS paid_for_until,
    paidwatch.image_value(a.after, 'paid_until') IS NULL AS paid_for_ever, u.user_id IS NOT NULL AS user_exists,
    paidwatch.readable(u.paid_until) AS paid_until, coalesce(u.paid_until_watched, false) AS paid_until_watched,
    NOT EXISTS (SELECT FROM paidwatch.compare_subscriber(a.user_id, a.after)) AS untouched,
    e.event_id AS found_event, e.type AS found_type, paidwatch.readable(e.created_at) AS found_at, now() AS now
FROM seen a
LEFT JOIN paidwatch.payments p ON p.payment_id = a.payment_id
LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
LEFT JOIN LATERAL (
    SELECT x.plan_id, x.amount, x.currency, x.at FROM paidwatch.reading x
    WHERE a.reference IS NOT NULL AND x.method = a.method AND x.reference = a.reference AND x.valid AND x.status = 'paid' ORDER BY x.at LIMIT 1
) t ON true
LEFT JOIN paidwatch.subscribers u ON u.user_id = a.user_id
LEFT JOIN paidwatch.alert l ON l.activation_id = a.activation_id AND l.kind = 'double_activation'
CROSS JOIN LATERAL (
    SELECT coalesce(w.paid_at, p.settled_at, t.at, a.claimed_at) AS paid_at, 'P7_not_activated_yet' = ANY (a.forced) AS forced,
        -- As core.readback writes it.
        format('[paidwatch:%s:%s]', left(replace(i.installation_id::text, '-', ''), 8), a.activation_id) AS mark
    FROM paidwatch.installation i
) k
LEFT JOIN LATERAL (
    SELECT v.event_id, v.type, v.created_at FROM (
        SELECT x.event_id, x.type, x.created_at, d.d,
            array_remove(ARRAY[d.d ->> 'payment_reference', d.d ->> 'payment_id', d.d ->> 'transaction_id'], NULL) AS refs
        FROM paidwatch.events x CROSS JOIN LATERAL (SELECT paidwatch.event_data(x.data) AS d) d
        WHERE x.user_id = a.user_id AND x.class = 'activated' AND x.event_id IS DISTINCT FROM a.event_id
            AND x.created_at >= k.paid_at - interval '2 days'
    ) v
    -- Not one of paidwatch's own, nor one that the application wrote because it was asked to; unless it did so once more, after it
    -- was done: a request that had been given up for lost, and was asked for again.
    WHERE coalesce(v.d ->> 'source', '') <> 'paidwatch' AND (position('[paidwatch:' IN coalesce(v.d ->> 'reason', '')) = 0
            OR v.created_at > a.done_at + interval '5 seconds' AND position(k.mark IN v.d ->> 'reason') > 0)
        AND CASE WHEN v.refs && (ARRAY[a.payment_id::text, p.reference] || a.names
                || ARRAY(SELECT q.payment_id::text FROM paidwatch.payments q WHERE q.reference = ANY (a.names))) THEN NOT k.forced OR v.created_at > a.done_at
            ELSE cardinality(v.refs) = 0 AND v.created_at < a.done_at + interval '3 days'
                AND v.created_at > CASE WHEN k.forced OR a.strategy = 'http' THEN a.done_at ELSE k.paid_at - interval '5 minutes' END
                AND NOT EXISTS (
                    SELECT FROM paidwatch.payments q LEFT JOIN paidwatch.watch qw ON qw.payment_id = q.payment_id
                    WHERE q.user_id = a.user_id AND q.payment_id IS DISTINCT FROM a.payment_id AND q.paid AND coalesce(qw.paid_at, q.settled_at) > k.paid_at
                        AND (q.reference = ANY (a.names)) IS NOT TRUE)
            END
    ORDER BY v.created_at, v.event_id LIMIT 1
) e ON a.doubled_at IS NULL
WHERE a.state = 'done';

-- name: open_double
-- Marks an activation as made twice, and tells it once: on the channels of $7, unless a silence fits, now or at $12, the end of the quiet
-- hours. $1 activation, $2 event, $3 user, $4 cause, $5 lines, $6 severity, $7 channels, $8 plan, $9 method, $10 amount, $11 currency.
WITH marked AS (
    UPDATE paidwatch.activation SET doubled_at = now(), doubled_by = $2::text WHERE activation_id = $1::bigint AND doubled_at IS NULL
    RETURNING activation_id
), told AS (
    INSERT INTO paidwatch.alert (kind, activation_id, user_id, cause, notes, severity, plan_id, method, amount, currency, error_class, silence_id)
    SELECT 'double_activation', m.activation_id, $3::text::paidwatch.user_key, $4::text, $5::text[], $6::text, $8::text, $9::text, $10::numeric,
        $11::text, $4::text, s.silence_id
    FROM marked m
    LEFT JOIN LATERAL (
        SELECT s.silence_id FROM paidwatch.silence s
        WHERE s.ended_at IS NULL AND s.expires_at > now() AND (s.user_id IS NULL OR s.user_id = $3::text::paidwatch.user_key)
            AND (s.plan_id IS NULL OR s.plan_id = $8::text) AND (s.method IS NULL OR lower(s.method) = lower($9::text))
            AND (s.kind IS NULL OR s.kind = 'double_activation')
        ORDER BY s.expires_at DESC, s.silence_id LIMIT 1
    ) s ON true
    ON CONFLICT DO NOTHING
    RETURNING alert_id, silence_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, note)
    SELECT t.alert_id, k.what, k.note FROM told t
    CROSS JOIN LATERAL (VALUES ('opened', ''), (CASE WHEN t.silence_id IS NOT NULL THEN 'silenced' END, format('silence %s', t.silence_id))) AS k (what, note)
    WHERE k.what IS NOT NULL
), queued AS (
    INSERT INTO paidwatch.delivery (alert_id, channel, due_at, waits_for)
    SELECT t.alert_id, c.name, coalesce($12::timestamptz, now()), CASE WHEN $12::timestamptz IS NOT NULL THEN 'quiet' END FROM told t CROSS JOIN unnest($7::text[]) AS c (name) WHERE t.silence_id IS NULL
)
SELECT t.alert_id, t.silence_id IS NOT NULL AS silenced FROM told t;

-- name: double_over
-- The user has again exactly what was paid for. $1 alert.
WITH over AS (
    UPDATE paidwatch.alert a SET state = 'resolved', outcome = 'ended', resolved_at = now(), revision = a.revision + 1, acked_until = NULL,
        remind_at = NULL, escalate_at = NULL, look_at = NULL
    WHERE a.alert_id = $1::bigint AND a.state <> 'resolved'
    RETURNING a.alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what) SELECT o.alert_id, 'resolved' FROM over o
)
SELECT o.alert_id FROM over o;
