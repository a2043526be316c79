-- name: list_activations
-- The ledger as a person looks at it, the newest first. $1 states or NULL, $2 since which span (NULL: always), $3 user or NULL, $4 one
-- activation only (NULL: all), $5 most.
SELECT now() AS now, a.activation_id, a.payment_id::text AS payment_id, a.user_id::text AS user_id, coalesce(u.label, u.name) AS user_label,
    a.state, a.strategy, a.actor, a.reason, a.claimed_at, a.done_at, a.due_at, a.attempts, a.calls, a.called_at, a.answer, a.guards::text AS guards,
    a.forced, a.before::text AS before, a.after::text AS after, a.planned::text AS planned, a.event_id, a.error, a.version,
    a.undone_at, a.undone_by, a.undone_why, a.compared_at, a.was_right, a.comparison, a.doubled_at, a.doubled_by,
    coalesce(p.plan_id, w.plan_id, t.plan_id) AS plan_id, coalesce(p.method, w.method, a.method) AS method,
    coalesce(p.amount, w.amount, t.amount) AS amount, coalesce(p.currency, w.currency, t.currency) AS currency,
    coalesce(p.reference, a.reference) AS reference,
    paidwatch.image_value(g.image, 'tier') AS tier, paidwatch.image_moment(g.image, 'paid_until') AS paid_until
FROM paidwatch.activation a
LEFT JOIN paidwatch.payments p ON p.payment_id = a.payment_id
LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
LEFT JOIN LATERAL (
    SELECT x.plan_id, x.amount, x.currency FROM paidwatch.reading x
    WHERE a.reference IS NOT NULL AND x.method = a.method AND x.reference = a.reference AND x.valid AND x.status = 'paid' ORDER BY x.at LIMIT 1
) t ON true
LEFT JOIN paidwatch.subscribers u ON u.user_id = a.user_id
CROSS JOIN LATERAL (SELECT coalesce(a.after, a.planned) AS image) g
WHERE ($1::text[] IS NULL OR a.state = ANY ($1::text[])) AND ($2::interval IS NULL OR coalesce(a.done_at, a.claimed_at) >= now() - $2::interval)
    AND ($3::text IS NULL OR a.user_id::text = $3::text) AND ($4::bigint IS NULL OR a.activation_id = $4::bigint)
ORDER BY a.activation_id DESC LIMIT $5::integer;

-- name: audit_of
-- What was done about one activation, in order. $1 activation.
SELECT t.at, t.actor, t.act, t.version, t.detail ->> 'reason' AS reason FROM paidwatch.audit t
WHERE t.user_id = (SELECT a.user_id FROM paidwatch.activation a WHERE a.activation_id = $1::bigint) AND t.detail ->> 'activation_id' = $1::bigint::text
ORDER BY t.audit_id;

-- name: activation_usage
-- What automatic activation did lately, and what is under way or stuck. $1 counts shadow activations too, as the caps of shadow mode do.
SELECT now() AS now,
    count(*) FILTER (WHERE a.actor = 'auto' AND (a.state IN ('claimed', 'calling', 'done', 'undone') OR $1::boolean AND a.state = 'shadow')
        AND a.claimed_at > now() - interval '1 hour') AS hour,
    count(*) FILTER (WHERE a.actor = 'auto' AND (a.state IN ('claimed', 'calling', 'done', 'undone') OR $1::boolean AND a.state = 'shadow')
        AND a.claimed_at > now() - interval '1 day') AS day,
    count(*) FILTER (WHERE a.state IN ('claimed', 'calling')) AS under_way,
    count(*) FILTER (WHERE a.state = 'failed' AND a.done_at > now() - interval '1 day') AS failed,
    count(*) FILTER (WHERE a.state = 'undone' AND a.undone_at > now() - interval '1 day') AS undone
FROM paidwatch.activation a
WHERE a.state IN ('claimed', 'calling') OR a.claimed_at > now() - interval '2 days' OR a.undone_at > now() - interval '1 day';
