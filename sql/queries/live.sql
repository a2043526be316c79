-- name: tell_feed
-- A hint to whoever looks at gaps and deliveries live; sent at commit, and no cost where nobody listens. None while the
-- queue of notifications fills up: a full one would fail the commit.
SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('paidwatch_feed', '') END AS told;

-- name: live_state
-- The head of the live view: how much is open, how the daemon keeps up, and how fast the application was since $1.
SELECT clock_timestamp() AS now,
    (SELECT count(*) FROM paidwatch.watch w WHERE w.state = 'gap') + (SELECT count(*) FROM paidwatch.claim c WHERE c.state = 'gap') AS gaps,
    (SELECT count(*) FROM (SELECT FROM paidwatch.watch w WHERE w.due_at IS NOT NULL LIMIT 10001) few) AS waiting,
    (SELECT count(*) FROM (SELECT FROM paidwatch.inbox i LIMIT 10001) few) AS noted,
    (SELECT clock_timestamp() - min(few.at) FROM (SELECT i.at FROM paidwatch.inbox i ORDER BY i.txid LIMIT 100) few) AS unread,
    (SELECT clock_timestamp() - min(w.due_at) FROM paidwatch.watch w WHERE w.due_at <= clock_timestamp()) AS overdue,
    t.count AS activations, t.percentiles, t.longest
FROM (
    SELECT count(*) AS count, percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY k.took) AS percentiles, max(k.took) AS longest
    FROM (
        SELECT greatest(w.settled_at - w.paid_at, interval '0') AS took FROM paidwatch.watch w
        WHERE w.state = 'closed' AND w.closed_at >= $1::timestamptz AND w.source = 'trigger' AND w.settled_at >= $1::timestamptz
    ) k
) t;

-- name: live_money
-- What was paid for the open gaps, by currency.
SELECT k.currency, sum(k.amount) FILTER (WHERE k.amount <> 'NaN') AS amount FROM (
    SELECT w.currency, w.amount FROM paidwatch.watch w WHERE w.state = 'gap'
    UNION ALL
    SELECT a.currency, a.amount FROM paidwatch.alert a WHERE a.state <> 'resolved' AND a.reference IS NOT NULL
) k WHERE k.currency IS NOT NULL GROUP BY k.currency ORDER BY k.currency;

-- name: live_gaps
-- The open gaps, the newest first; what only webhooks tell of has the provider's id for a payment, or the method's name. $1 most.
SELECT k.* FROM (
    SELECT w.payment_id::text AS payment_id, w.user_id::text AS user_id, w.kind, w.plan_id, w.amount, w.currency, w.method, w.paid_at,
        a.alert_id, a.cause, a.opened_at, a.reminders
    FROM paidwatch.watch w LEFT JOIN paidwatch.alert a ON a.payment_id = w.payment_id AND a.state <> 'resolved'
    WHERE w.state = 'gap'
    UNION ALL
    SELECT CASE WHEN c.reference IN ('', '?', '!') THEN c.method ELSE c.reference END, c.user_id::text, c.kind, a.plan_id, a.amount, a.currency,
        c.method, c.opened_at, a.alert_id, a.cause, a.opened_at, a.reminders
    FROM paidwatch.claim c
    LEFT JOIN paidwatch.alert a ON a.method = c.method AND a.reference = c.reference AND a.state <> 'resolved'
    WHERE c.state = 'gap'
) k ORDER BY k.paid_at DESC, k.payment_id DESC LIMIT $1::integer;

-- name: live_closed
-- The gaps that were closed last, the newest first. $1 most.
SELECT a.alert_id, coalesce(a.payment_id::text, CASE WHEN a.reference IN ('', '?', '!') THEN a.method ELSE a.reference END) AS payment_id,
    a.user_id::text AS user_id, a.kind, a.outcome, a.opened_at, a.resolved_at, coalesce(w.plan_id, a.plan_id) AS plan_id,
    coalesce(w.amount, a.amount) AS amount, coalesce(w.currency, a.currency) AS currency, coalesce(w.method, a.method) AS method, w.paid_at
FROM paidwatch.alert a LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
WHERE a.state = 'resolved' AND (a.payment_id IS NOT NULL OR a.reference IS NOT NULL)
ORDER BY a.resolved_at DESC, a.alert_id DESC LIMIT $1::integer;

-- name: live_channels
-- How the channels are: those of the configuration ($1), and others that still have something to be told.
SELECT n.name, n.name = ANY ($1::text[]) AS configured, c.down_since, c.down_reason, q.queued, q.told_at, q.retrying, q.dead
FROM (
    SELECT unnest($1::text[]) AS name UNION SELECT d.channel FROM paidwatch.delivery d WHERE d.due_at IS NOT NULL
) n
LEFT JOIN paidwatch.channel c ON c.name = n.name
CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM paidwatch.delivery d WHERE d.channel = n.name AND d.due_at IS NOT NULL) AS queued,
        (SELECT count(*) FROM paidwatch.delivery d WHERE d.channel = n.name AND d.due_at IS NOT NULL AND d.last_error IS NOT NULL) AS retrying,
        (SELECT count(*) FROM paidwatch.delivery d WHERE d.channel = n.name AND d.dead_at IS NOT NULL) AS dead,
        (SELECT max(d.told_at) FROM paidwatch.delivery d JOIN paidwatch.attempt t ON t.delivery_id = d.delivery_id
         WHERE d.channel = n.name AND t.attempt_id >= (SELECT max(r.attempt_id) - 1000 FROM paidwatch.attempt r)) AS told_at
) q
ORDER BY array_position($1::text[], n.name) NULLS LAST, n.name;

-- name: live_attempts
-- The requests made to channels last, the newest first. $1 most.
SELECT t.attempt_id, t.at, t.took, t.word, t.result, t.code, t.error, d.channel, d.alert_id, a.payment_id::text AS payment_id
FROM paidwatch.attempt t JOIN paidwatch.delivery d ON d.delivery_id = t.delivery_id JOIN paidwatch.alert a ON a.alert_id = d.alert_id
ORDER BY t.attempt_id DESC LIMIT $1::integer;
