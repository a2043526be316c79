-- name: watcher
-- Which session leads, seen from outside: the one that holds the lock of leadership, and how many wait for it.
SELECT min(l.pid) FILTER (WHERE l.granted) AS pid, count(*) FILTER (WHERE NOT l.granted) AS standbys,
    min(a.backend_start) FILTER (WHERE l.granted) AS since
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND (l.classid::bigint << 32 | l.objid::bigint) = paidwatch.leadership()
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());

-- name: keys
-- Whether the application's keys are numbers, so that JSON shows them as such; and whether this server only repeats another one.
SELECT p.typcategory = 'N' AS payments, u.typcategory = 'N' AS users, pg_is_in_recovery() AS standby
FROM pg_type p, pg_type u WHERE p.oid = 'paidwatch.payment_key'::regtype AND u.oid = 'paidwatch.user_key'::regtype;

-- name: candidates
-- The payments of which `check` must ask whether they are gaps: paid since $1 ago, watched and not closed, or noted and not
-- read yet. What is surely none is dropped here, and only counted: the steps of core.verdict that end well, where a plain
-- comparison can tell; a test compares the two. $2 period slack, $3 methods, $4 graces, $5 grace.
-- Rows of other tables are fetched by arrays of keys, so that no estimate of the number of payments can make the server read
-- a table as a whole: it has no statistics about "recent", because it does not use those of an index with a predicate.
WITH noted AS MATERIALIZED (
    SELECT i.payment_id, min(i.at) FILTER (WHERE i.kind = 'P') AS entered_at, min(i.at) FILTER (WHERE i.kind = 'R') AS reversed_at,
        max(i.at) AS touched_at
    FROM paidwatch.inbox i WHERE i.payment_id IS NOT NULL GROUP BY i.payment_id
), older AS MATERIALIZED (
    SELECT w.payment_id FROM paidwatch.watch w WHERE w.state = 'gap'
    UNION SELECT w.payment_id FROM paidwatch.watch w WHERE w.due_at IS NOT NULL
    UNION SELECT n.payment_id FROM noted n
), looked AS MATERIALIZED (
    SELECT p.payment_id, p.user_id, p.plan_id, p.settled_at, true AS paid, false AS reversed
    FROM paidwatch.payments p WHERE p.paid AND p.settled_at >= now() - $1::interval
    UNION ALL
    SELECT p.payment_id, p.user_id, p.plan_id, p.settled_at, p.paid, p.phase = 'reversed'
    FROM paidwatch.payments p WHERE p.payment_id = ANY (ARRAY(SELECT o.payment_id FROM older o))
        AND (p.paid AND p.settled_at >= now() - $1::interval) IS NOT TRUE
), users AS (
    SELECT u.user_id, u.admin, u.tier_watched, u.tier_rank, u.paid_until_watched, u.paid_until,
        u.enabled AND u.status_active IS NOT FALSE AND u.revoked_at IS NULL AS able
    FROM paidwatch.subscribers u WHERE u.user_id = ANY (ARRAY(SELECT l.user_id FROM looked l))
), watches AS (
    SELECT w.payment_id, w.state, w.outcome, w.paid_at, w.grace_until, w.touched_at, w.reversed_at
    FROM paidwatch.watch w WHERE w.payment_id = ANY (ARRAY(SELECT l.payment_id FROM looked l))
), sifted AS MATERIALIZED (
    SELECT l.payment_id, l.user_id, n.touched_at AS noted_at, n.entered_at, w.state AS watch_state, w.grace_until,
        coalesce(n.touched_at, w.touched_at) AS touched_at, coalesce(w.reversed_at, n.reversed_at) AS reversed_at, t.paid_at
    FROM looked l
    LEFT JOIN watches w ON w.payment_id = l.payment_id
    LEFT JOIN noted n ON n.payment_id = l.payment_id
    LEFT JOIN users u ON u.user_id = l.user_id
    LEFT JOIN paidwatch.plans pl ON pl.plan_id = l.plan_id
    CROSS JOIN LATERAL (
        SELECT coalesce(CASE WHEN w.outcome IN ('left', 'gone') THEN n.entered_at END, w.paid_at, n.entered_at, n.reversed_at,
            l.settled_at, now()) AS paid_at
    ) t
    WHERE (w.outcome = 'dismissed') IS NOT TRUE AND (
        NOT l.reversed AND w.reversed_at IS NULL AND n.reversed_at IS NULL AND (
            NOT l.paid OR u.admin OR pl.free OR pl.rank = 0
            OR u.able AND (NOT u.tier_watched OR u.tier_rank >= pl.rank)
                AND (NOT u.paid_until_watched OR u.paid_until IS NULL OR u.paid_until >= t.paid_at + pl.duration - $2::interval)
        )) IS NOT TRUE
), timed AS (
    -- What the daemon will do with what was noted is done here as well: see drain_inbox.
    SELECT s.*, CASE
        WHEN s.watch_state IS NOT NULL AND (s.noted_at IS NULL OR s.watch_state <> 'closed' AND s.reversed_at IS NULL) THEN s.grace_until
        ELSE coalesce(s.entered_at, s.reversed_at, s.noted_at, s.paid_at) + coalesce((
            SELECT g.span FROM unnest($3::text[], $4::interval[]) AS g (method, span) JOIN paidwatch.payments p ON lower(p.method) = lower(g.method)
            WHERE p.payment_id = s.payment_id LIMIT 1), $5::interval) END AS until
    FROM sifted s
), sorted AS MATERIALIZED (
    -- Within its grace a payment is no gap, unless the application has said that it failed.
    SELECT t.*, now() < t.until AND NOT EXISTS (
        SELECT FROM paidwatch.events e
        WHERE e.user_id = t.user_id AND e.class = 'failed' AND e.created_at >= t.paid_at - interval '3 days') AS waiting
    FROM timed t
)
SELECT now() AS now, now() - $1::interval AS since, c.looked, c.waiting, o.payment_id::text AS payment_id, o.paid_at, o.until AS grace_until,
    o.reversed_at, o.touched_at
FROM (SELECT (SELECT count(*) FROM looked) AS looked, (SELECT count(*) FROM sorted WHERE waiting) AS waiting) c
LEFT JOIN sorted o ON NOT o.waiting
ORDER BY o.paid_at, o.payment_id;
