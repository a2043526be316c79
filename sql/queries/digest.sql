-- name: pulse_state
-- What the heartbeat asks of the outbox. $1 the configured channels. What waits for a broken channel is not old, since the others
-- were told of that; what waits for the end of the quiet hours is due when they end.
SELECT count(*) FILTER (WHERE k.down_since IS NULL)::integer AS living,
    max(o.age) FILTER (WHERE k.down_since IS NULL) AS oldest
FROM unnest($1::text[]) AS n (name)
LEFT JOIN paidwatch.channel k ON k.name = n.name
LEFT JOIN LATERAL (
    -- A delivery that is tried again and again is due since its first try.
    SELECT max(now() - coalesce(d.trying_since, d.due_at)) AS age FROM paidwatch.delivery d
    WHERE d.channel = n.name AND d.due_at IS NOT NULL AND d.waits_for IS DISTINCT FROM 'held'
) o ON true;

-- name: digest_state
-- When the last daily digest was written; NULL before the first appointment was made.
SELECT i.digest_at, now() AS now FROM paidwatch.installation i;

-- name: begin_digests
-- The first digest tells what was since $1, and is due at the next time of day.
UPDATE paidwatch.installation SET digest_at = $1::timestamptz WHERE digest_at IS NULL;

-- name: claim_digest
-- The digest of $1 … $2 is this daemon's to tell, if nobody told it meanwhile. $1 the former one.
UPDATE paidwatch.installation SET digest_at = $2::timestamptz WHERE digest_at = $1::timestamptz AND $2::timestamptz > digest_at
RETURNING digest_at;

-- name: digest_closed
-- What became of the payments whose watches were closed since $1: counts, and the times of those that a trigger told of. At most
-- the newest $2 of them are looked at.
SELECT count(*) AS looked, count(*) FILTER (WHERE k.noticed_at >= $1::timestamptz) AS seen, count(*) FILTER (WHERE k.outcome = 'activated') AS activated,
    percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY k.took) AS percentiles, max(k.took) AS longest, now() AS now
FROM (
    SELECT w.noticed_at, w.outcome,
        CASE WHEN w.outcome = 'activated' AND w.source = 'trigger' THEN greatest(w.settled_at - w.paid_at, interval '0') END AS took
    FROM paidwatch.watch w
    WHERE w.state = 'closed' AND w.closed_at >= $1::timestamptz AND w.source <> 'baseline' ORDER BY w.closed_at DESC LIMIT $2::bigint
) k;

-- name: digest_open
-- The payments that are not closed: seen since $1, and within their grace period now.
SELECT (SELECT count(*) FROM paidwatch.watch w WHERE w.state = 'gap' AND w.noticed_at >= $1::timestamptz AND w.source <> 'baseline') AS gaps,
    count(*) FILTER (WHERE w.noticed_at >= $1::timestamptz) AS seen, count(*) AS waiting
FROM paidwatch.watch w WHERE w.due_at IS NOT NULL AND w.state = 'waiting' AND w.source <> 'baseline';

-- name: digest_sums
-- By what became of it and currency: gaps opened since $1, closed since then (expired is none of these), given up since then, open
-- now; and what paidwatch activated since then. Rows are found by partial indexes: what opened since then is open or ended since then.
SELECT s.fate, s.currency, count(*) AS count, coalesce(sum(s.amount) FILTER (WHERE s.amount <> 'NaN'), 0) AS amount
FROM (
    SELECT 'open' AS fate, w.currency, w.amount FROM paidwatch.watch w WHERE w.state = 'gap'
    UNION ALL
    SELECT 'opened', coalesce(a.currency, w.currency), coalesce(a.amount, w.amount)
    FROM paidwatch.alert a LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
    WHERE a.state <> 'resolved' AND a.payment_id IS NOT NULL AND a.opened_at >= $1::timestamptz
    UNION ALL
    SELECT f.fate, coalesce(a.currency, w.currency), coalesce(a.amount, w.amount)
    FROM paidwatch.alert a LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
    CROSS JOIN LATERAL (
        SELECT 'opened' AS fate WHERE a.opened_at >= $1::timestamptz
        UNION ALL SELECT CASE WHEN a.outcome = 'expired' THEN 'expired' ELSE 'closed' END
    ) f
    WHERE a.state = 'resolved' AND a.resolved_at >= $1::timestamptz AND a.payment_id IS NOT NULL
    UNION ALL
    SELECT 'rescued', w.currency, w.amount
    FROM paidwatch.activation g LEFT JOIN paidwatch.watch w ON w.payment_id = g.payment_id
    WHERE g.state = 'done' AND g.done_at >= $1::timestamptz
) s
GROUP BY s.fate, s.currency ORDER BY s.fate, s.currency NULLS LAST;

-- name: digest_dead
-- Dead letters since $1, and all of them; and the channels that are broken, of those of the configuration ($2).
SELECT count(*) FILTER (WHERE d.dead_at >= $1::timestamptz) AS fresh, count(*) AS dead,
    ARRAY(SELECT c.name FROM paidwatch.channel c WHERE c.name = ANY ($2::text[]) AND c.down_since IS NOT NULL ORDER BY c.name) AS broken
FROM paidwatch.delivery d WHERE d.dead_at IS NOT NULL;
