-- name: latencies
-- From payment to activation, of payments paid since $1 ago that a trigger told of: of the others only the day is known.
-- What a person undid since is no activation. One row a method and plan, and first one over all of them (total is true).
SELECT grouping(w.method, w.plan_id) > 0 AS total, w.method, w.plan_id, count(*) AS count, max(t.took) AS longest,
    percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY t.took) AS percentiles
FROM paidwatch.watch w CROSS JOIN LATERAL (SELECT greatest(w.settled_at - w.paid_at, interval '0') AS took) t
WHERE w.paid_at >= now() - $1::interval AND w.source = 'trigger' AND w.settled_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM paidwatch.activation v WHERE v.payment_id = w.payment_id AND v.state = 'undone' AND v.undone_at >= w.settled_at)
GROUP BY GROUPING SETS ((w.method, w.plan_id), ())
ORDER BY total DESC, count DESC, w.method, w.plan_id;

-- name: endings
-- What became of the payments paid since $1 ago, and of the money. Saved: paidwatch activated it, or somebody was told before the
-- application did. Unseen: activated while nobody listened. Lost: still a gap.
SELECT s.ending, s.currency, count(*) AS count, sum(s.amount) FILTER (WHERE s.amount <> 'NaN') AS amount
FROM (
    SELECT w.currency, w.amount, CASE
        WHEN w.state = 'gap' THEN 'lost'
        WHEN w.state = 'waiting' THEN 'waiting'
        WHEN w.source = 'baseline' OR w.outcome = 'baseline' THEN 'history'
        WHEN w.outcome = 'fixed' THEN 'saved'
        WHEN w.outcome <> 'activated' THEN 'nothing_owed'
        WHEN EXISTS (SELECT FROM paidwatch.alert a JOIN paidwatch.delivery d ON d.alert_id = a.alert_id
            WHERE a.payment_id = w.payment_id AND d.told_at IS NOT NULL) THEN 'saved'
        WHEN w.source = 'reconcile' THEN 'unseen'
        WHEN w.settled_at > w.grace_until THEN 'late'
        ELSE 'in_grace' END AS ending
    FROM paidwatch.watch w WHERE w.paid_at >= now() - $1::interval
) s
GROUP BY s.ending, s.currency ORDER BY s.ending, s.currency;

-- name: histogram
-- How many activations took less than the first of the spans $2, less than the second, …, and longer than the last,
-- of those that latencies counts. $1 since.
SELECT width_bucket(greatest(w.settled_at - w.paid_at, interval '0'), $2::interval[]) AS bucket, count(*) AS count
FROM paidwatch.watch w
WHERE w.paid_at >= now() - $1::interval AND w.source = 'trigger' AND w.settled_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM paidwatch.activation v WHERE v.payment_id = w.payment_id AND v.state = 'undone' AND v.undone_at >= w.settled_at)
GROUP BY bucket ORDER BY bucket;
