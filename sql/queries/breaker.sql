-- name: breaker
-- How the breaker stands.
SELECT opened_at, opened_by, reason, armed_at, armed_by FROM paidwatch.breaker;

-- name: recent_activations
-- What the breaker is judged by: only what happened since it was armed. $1 window, $2 kinds of gap that count, $3 payments that are
-- becoming gaps in this transaction, $4 share at which it opens, $5 payments before the share counts. Payments are counted no further
-- than it takes to tell.
SELECT f.failures, g.gaps, g.gaps + greatest(p.settled - g.late, 0) AS payments
FROM paidwatch.breaker b
CROSS JOIN LATERAL (SELECT greatest(b.armed_at, now() - $1::interval) AS at) since
CROSS JOIN LATERAL (
    SELECT count(*) AS failures FROM paidwatch.activation a
    WHERE a.state = 'failed' AND a.actor = 'auto' AND a.done_at > greatest(b.armed_at, coalesce((
        SELECT max(d.done_at) FROM paidwatch.activation d WHERE d.state = 'done' AND d.actor = 'auto' AND d.done_at > b.armed_at), b.armed_at))
) f
CROSS JOIN LATERAL (
    -- A gap that was found in this window counts once, also when it is over; `late` are those that ended as ordinary payments do.
    SELECT count(*) + (
            SELECT count(*) FROM unnest($3::text[]) AS n (payment_id)
            WHERE NOT EXISTS (SELECT FROM paidwatch.alert a WHERE a.payment_id = n.payment_id::paidwatch.payment_key
                AND (a.state <> 'resolved' OR a.opened_at > since.at))
        ) AS gaps,
        count(*) FILTER (WHERE a.outcome = 'activated') AS late
    FROM paidwatch.alert a WHERE a.opened_at > since.at AND a.kind = ANY ($2::text[]) AND a.payment_id IS NOT NULL
) g
CROSS JOIN LATERAL (
    SELECT count(*) AS settled FROM (
        SELECT FROM paidwatch.watch w WHERE w.state = 'closed' AND w.closed_at > since.at AND w.outcome = 'activated' AND w.source <> 'baseline'
        LIMIT CASE WHEN $4::numeric > 0 THEN g.late + ceil(g.gaps / $4::numeric)::bigint + $5::integer ELSE 0 END) few
) p;

-- name: open_breaker
-- Returns nothing where it is open already. $1 by whom, $2 why.
UPDATE paidwatch.breaker SET opened_at = now(), opened_by = $1::text, reason = $2::text WHERE opened_at IS NULL RETURNING opened_at;

-- name: arm_breaker
-- Closes the breaker and ends the story about it, which is told to whoever heard of it. Returns nothing where it is not open. $1 by whom.
WITH before AS MATERIALIZED (
    SELECT b.opened_at, b.opened_by, b.reason FROM paidwatch.breaker b WHERE b.opened_at IS NOT NULL FOR UPDATE
), armed AS (
    UPDATE paidwatch.breaker b SET opened_at = NULL, opened_by = NULL, reason = NULL, armed_at = now(), armed_by = $1::text
    FROM before RETURNING b.armed_at
), over AS (
    UPDATE paidwatch.alert a SET state = 'resolved', outcome = 'ended', resolved_at = now(), revision = a.revision + 1, remind_at = NULL,
        escalate_at = NULL, look_at = NULL, acked_until = NULL, notes = a.notes || format('Resumed by %s.', $1::text)
    FROM armed WHERE a.kind = 'breaker' AND a.state <> 'resolved' RETURNING a.alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, actor) SELECT o.alert_id, 'resolved', $1::text FROM over o
), queued AS (
    UPDATE paidwatch.delivery x SET due_at = CASE WHEN x.lease_until > now() THEN x.due_at ELSE greatest(now(), coalesce(x.not_before, now())) END
    FROM over o WHERE x.alert_id = o.alert_id AND (x.dead_at IS NULL OR x.told_revision > 0)
)
SELECT before.opened_at, before.opened_by, before.reason FROM before, armed;
