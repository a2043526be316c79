-- name: user_key
-- Fails where the text cannot be a key of the application's users. $1 text.
SELECT ($1::text::paidwatch.user_key)::text AS user_id;

-- name: users_named
-- The keys of the users who are called so, two at most: one is an answer, two are none. $1 e-mail address.
SELECT u.user_id::text AS user_id FROM paidwatch.subscribers u WHERE u.label = $1::text LIMIT 2;

-- name: user_state
-- One user as the application has him now. $1 user.
SELECT u.user_id::text AS user_id, u.label, u.name, u.enabled, u.admin, u.status, u.tier, u.plan_id, u.paid_until, u.revoked_at, u.last_paid_at
FROM paidwatch.subscribers u WHERE u.user_id = $1::text::paidwatch.user_key;

-- name: user_payments
-- The newest payments of a user, deleted ones among them where a watch remembers them; with what was noted and not read yet.
-- $1 user, $2 most, $3 methods, $4 graces, $5 grace.
WITH noted AS MATERIALIZED (
    SELECT i.payment_id, min(i.at) FILTER (WHERE i.kind = 'P') AS entered_at, min(i.at) FILTER (WHERE i.kind = 'R') AS reversed_at,
        max(i.at) AS touched_at
    FROM paidwatch.inbox i WHERE i.user_id = $1::text::paidwatch.user_key AND i.payment_id IS NOT NULL GROUP BY i.payment_id
), theirs AS (
    SELECT p.payment_id FROM paidwatch.payments p WHERE p.user_id = $1::text::paidwatch.user_key
    UNION SELECT w.payment_id FROM paidwatch.watch w WHERE w.user_id = $1::text::paidwatch.user_key AND w.outcome = 'gone'
)
SELECT now() AS now, t.payment_id::text AS payment_id, coalesce(p.plan_id, w.plan_id) AS plan_id, coalesce(p.amount, w.amount) AS amount,
    coalesce(p.currency, w.currency) AS currency, coalesce(p.method, w.method) AS method, p.reference, p.status, p.phase, p.created_at,
    coalesce(p.paid, false) AS paid, w.outcome, w.state AS watch_state, coalesce(w.reversed_at, n.reversed_at) AS reversed_at,
    coalesce(n.touched_at, w.touched_at) AS touched_at, a.paid_at,
    CASE WHEN w.state IS NOT NULL AND (n.touched_at IS NULL OR w.state <> 'closed' AND n.reversed_at IS NULL) THEN w.grace_until
        ELSE coalesce(n.entered_at, n.reversed_at, n.touched_at, a.paid_at) + coalesce(
            (SELECT g.span FROM unnest($3::text[], $4::interval[]) AS g (method, span) WHERE lower(g.method) = lower(p.method)), $5::interval)
        END AS grace_until
FROM theirs t
LEFT JOIN paidwatch.payments p ON p.payment_id = t.payment_id
LEFT JOIN paidwatch.watch w ON w.payment_id = t.payment_id
LEFT JOIN noted n ON n.payment_id = t.payment_id
CROSS JOIN LATERAL (
    SELECT coalesce(CASE WHEN w.outcome IN ('left', 'gone') THEN n.entered_at END, w.paid_at, n.entered_at, n.reversed_at,
        p.settled_at, now()) AS paid_at
) a
ORDER BY a.paid_at DESC, t.payment_id DESC LIMIT $2::integer;

-- name: timeline
-- Everything that is known of a user, as moments; the newest first. $1 user, $2 most, $3 payments, $4 the provider's ids of them.
WITH undone AS MATERIALIZED (
    SELECT v.activation_id, v.payment_id, v.method, v.reference, v.done_at, v.undone_at FROM paidwatch.activation v
    WHERE v.user_id = $1::text::paidwatch.user_key AND v.state = 'undone'
), moments AS (
    SELECT p.created_at AS at, 'payment' AS what, p.payment_id::text AS id, p.payment_id::text AS payment_id, 'created' AS word,
        concat_ws(' ', p.plan_id, p.amount, p.currency, 'by ' || p.method, 'as ' || p.reference, '(now ' || p.status || ')') AS said
    FROM paidwatch.payments p WHERE p.user_id = $1::text::paidwatch.user_key
    UNION ALL
    SELECT coalesce(w.paid_at, p.settled_at), 'payment', p.payment_id::text, p.payment_id::text, 'paid', ''
    FROM paidwatch.payments p LEFT JOIN paidwatch.watch w ON w.payment_id = p.payment_id
    WHERE p.user_id = $1::text::paidwatch.user_key AND (p.paid OR w.payment_id IS NOT NULL)
    UNION ALL
    SELECT e.created_at, 'event', e.event_id, d.d ->> 'payment_id', e.type,
        concat_ws(' ', d.d ->> 'plan_id', 'for ' || (d.d ->> 'payment_reference'), d.d ->> 'reason', d.d ->> 'error')
    FROM paidwatch.events e CROSS JOIN LATERAL (SELECT paidwatch.event_data(e.data) AS d) d
    WHERE e.user_id = $1::text::paidwatch.user_key
    UNION ALL
    SELECT h.created_at, 'webhook', h.webhook_id, NULL, coalesce(h.status, 'received'),
        concat_ws(' ', h.method, 'for ' || h.reference,
            CASE h.valid WHEN true THEN 'signature valid' WHEN false THEN 'signature bad' ELSE 'signature not checked' END, h.error)
    FROM paidwatch.webhooks h
    WHERE h.user_id = $1::text::paidwatch.user_key OR h.reference = ANY ($3::text[]) OR h.reference = ANY ($4::text[])
    UNION ALL
    -- What names the user or a payment of his only inside of what the provider sent.
    SELECT x.at, 'webhook', x.log_id, NULL, coalesce(nullif(x.said, ''), x.status),
        concat_ws(' ', x.method, 'for ' || x.reference,
            CASE x.valid WHEN true THEN 'signature valid' WHEN false THEN 'signature bad' ELSE 'signature not checked' END, x.error)
    FROM paidwatch.reading x
    -- Way by way, each by its index: one condition with OR may read the whole table.
    WHERE x.log_id = ANY (ARRAY(
        SELECT y.log_id FROM paidwatch.reading y WHERE y.user_id = $1::text::paidwatch.user_key
        UNION SELECT y.log_id FROM paidwatch.reading y WHERE y.reference = ANY ($4::text[])
        -- The payment by another name than the application's.
        UNION SELECT y.log_id FROM paidwatch.reading_name y WHERE y.name = ANY ($4::text[]))) AND NOT EXISTS (
        SELECT FROM paidwatch.webhook_rows(ARRAY[x.log_id]) h
        WHERE h.user_id = $1::text::paidwatch.user_key OR h.reference = ANY ($3::text[]) OR h.reference = ANY ($4::text[]))
    UNION ALL
    SELECT m.at, 'watch', w.payment_id::text, w.payment_id::text, m.word, m.said
    FROM paidwatch.watch w CROSS JOIN LATERAL (VALUES
        (w.noticed_at, 'noticed', concat_ws(' ', 'by ' || w.source || ', in grace until', to_char(w.grace_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'))),
        (w.reversed_at, 'reversed', ''),
        (CASE WHEN w.outcome IN ('activated', 'fixed') THEN w.settled_at END, 'activated', ''),
        (w.closed_at, 'closed', w.outcome)
    ) AS m (at, word, said)
    WHERE w.payment_id = ANY (ARRAY(SELECT t::paidwatch.payment_key FROM unnest($3::text[]) AS t)) AND m.at IS NOT NULL
    UNION ALL
    SELECT m.at, 'alert', a.alert_id::text, a.payment_id::text, m.word, m.said
    FROM paidwatch.alert a CROSS JOIN LATERAL (VALUES
        -- Only what was known then: an undo, which has its own line, changed the ending and added to the notes.
        (a.opened_at, 'opened', concat_ws(' ', a.kind || ':', nullif(a.cause, ''), nullif(a.detail, ''))),
        (a.resolved_at, 'resolved', concat_ws(' ',
            CASE WHEN a.outcome = 'ended' AND EXISTS (SELECT FROM undone u WHERE (u.payment_id = a.payment_id OR u.method = a.method AND u.reference = a.reference)
                AND u.done_at <= a.resolved_at AND u.undone_at > a.resolved_at) THEN 'fixed' ELSE a.outcome END,
            (SELECT string_agg(n.note, ' ' ORDER BY n.place) FROM unnest(a.notes) WITH ORDINALITY AS n (note, place)
             WHERE NOT EXISTS (SELECT FROM undone u WHERE u.undone_at >= a.resolved_at
                AND starts_with(n.note, format('Activation %s was undone by ', u.activation_id))))))
    ) AS m (at, word, said)
    WHERE a.user_id = $1::text::paidwatch.user_key AND m.at IS NOT NULL
    UNION ALL
    SELECT t.at, 'delivery', d.delivery_id::text, a.payment_id::text, t.result, concat_ws(' ', 'to ' || d.channel || ':', t.word, t.code, t.error)
    FROM paidwatch.alert a JOIN paidwatch.delivery d ON d.alert_id = a.alert_id JOIN paidwatch.attempt t ON t.delivery_id = d.delivery_id
    WHERE a.user_id = $1::text::paidwatch.user_key
    UNION ALL
    SELECT coalesce(d.dead_at, d.due_at), 'delivery', d.delivery_id::text, a.payment_id::text, CASE WHEN d.dead_at IS NULL THEN 'due' ELSE 'dead' END,
        concat_ws(' ', 'to ' || d.channel || ':', d.last_error)
    FROM paidwatch.alert a JOIN paidwatch.delivery d ON d.alert_id = a.alert_id
    WHERE a.user_id = $1::text::paidwatch.user_key AND coalesce(d.dead_at, d.due_at) IS NOT NULL
    UNION ALL
    SELECT m.at, 'activation', v.activation_id::text, v.payment_id::text, m.word, m.said
    FROM paidwatch.activation v CROSS JOIN LATERAL (VALUES
        (CASE WHEN v.state <> 'shadow' THEN v.claimed_at END, 'claimed', concat_ws(' ', 'for ' || v.method || ' ' || v.reference, 'by ' || v.actor, v.reason)),
        (v.done_at, CASE v.state WHEN 'undone' THEN 'done' ELSE v.state END, v.error),
        (v.doubled_at, 'doubled', 'by event ' || v.doubled_by),
        (v.undone_at, 'undone', concat_ws(': ', 'by ' || v.undone_by, nullif(v.undone_why, '')))
    ) AS m (at, word, said)
    WHERE v.user_id = $1::text::paidwatch.user_key AND m.at IS NOT NULL
)
SELECT m.at, m.what, m.id, m.payment_id, m.word, coalesce(m.said, '') AS said FROM moments m
-- What one transaction does has one time: there the cause stands before its consequence.
ORDER BY m.at DESC NULLS LAST, CASE
        WHEN m.what = 'payment' THEN CASE m.word WHEN 'created' THEN 1 ELSE 2 END
        WHEN m.what = 'webhook' THEN 3
        WHEN m.what = 'watch' AND m.word IN ('noticed', 'reversed') THEN CASE m.word WHEN 'noticed' THEN 4 ELSE 5 END
        WHEN m.what = 'alert' AND m.word = 'opened' THEN 6
        WHEN m.what = 'activation' AND m.word = 'claimed' THEN 7
        WHEN m.what = 'event' THEN 8
        WHEN m.what = 'activation' AND m.word NOT IN ('doubled', 'undone') THEN 9
        WHEN m.what = 'watch' AND m.word = 'activated' THEN 10
        WHEN m.what = 'activation' AND m.word = 'doubled' THEN 11
        WHEN m.what = 'watch' THEN 12
        WHEN m.what = 'alert' THEN 13
        WHEN m.what = 'delivery' THEN 14
        ELSE 15 END DESC,
    length(m.id) DESC, m.id DESC LIMIT $2::integer;

-- name: newest_undone
-- The newest activation of a user, if a person undid it. $1 user.
SELECT v.activation_id, v.undone_at, v.undone_by FROM (
    SELECT a.* FROM paidwatch.activation a WHERE a.user_id = $1::text::paidwatch.user_key AND a.state IN ('claimed', 'calling', 'done', 'undone')
    ORDER BY a.activation_id DESC LIMIT 1
) v WHERE v.state = 'undone';
