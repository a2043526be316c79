-- name: store_webhooks
-- The first thing that happens to webhooks: they are kept as they came. $1 providers, $2 bodies, $3 headers as JSON; the numbers come
-- back in the same order.
INSERT INTO paidwatch.webhook (provider, body, headers)
SELECT g.provider, g.body, g.headers::jsonb FROM unnest($1::text[], $2::bytea[], $3::text[]) WITH ORDINALITY AS g (provider, body, headers, n)
ORDER BY g.n
RETURNING webhook_id, received_at;

-- name: settle_webhooks
-- What became of webhooks that were kept: one like an earlier one that was believed is a duplicate and changes nothing. $1 webhooks,
-- $2 whether each is believed, $3 signatures, $4 problems, $5 keys by which duplicates are known, $6 references, $7 canonical
-- statuses, $8 whether each is to be passed on. Returns what was not settled by somebody else meanwhile.
WITH given AS MATERIALIZED (
    SELECT g.*, w.provider, min(g.webhook_id) OVER (PARTITION BY w.provider, g.dedupe_key, g.believed) AS first_id
    FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[])
        AS g (webhook_id, believed, signature, problem, dedupe_key, reference, status, forwards)
    JOIN paidwatch.webhook w ON w.webhook_id = g.webhook_id AND w.state = 'received'
), judged AS MATERIALIZED (
    -- By a subquery and not by a join: each is looked up by its key, however little is known of the table.
    SELECT g.*, coalesce((SELECT v.webhook_id FROM paidwatch.webhook v
            WHERE v.provider = g.provider AND v.dedupe_key = g.dedupe_key AND v.state = 'verified'),
        nullif(g.first_id, g.webhook_id)) AS original FROM given g
)
UPDATE paidwatch.webhook w SET signature = j.signature, problem = nullif(j.problem, ''), dedupe_key = j.dedupe_key, reference = j.reference,
    status = j.status, state = CASE WHEN NOT j.believed THEN 'rejected' WHEN j.original IS NULL THEN 'verified' ELSE 'duplicate' END,
    duplicate_of = CASE WHEN j.believed THEN j.original END,
    forward_state = CASE WHEN j.believed AND j.original IS NULL AND j.forwards THEN 'due' ELSE 'none' END,
    forward_at = CASE WHEN j.believed AND j.original IS NULL AND j.forwards THEN now() END,
    forward_since = CASE WHEN j.believed AND j.original IS NULL AND j.forwards THEN now() END
FROM judged j WHERE w.webhook_id = j.webhook_id AND w.state = 'received'
RETURNING w.webhook_id, w.state, w.forward_state;

-- name: log_webhooks
-- Writes the rows of the application's log. $1 webhooks, $2 entries, $3 payloads.
WITH written AS MATERIALIZED (
    SELECT x.log_id, x.n FROM paidwatch.write_webhooks($2::text[]::jsonb[], $3::text[]) WITH ORDINALITY AS x (log_id, n)
)
UPDATE paidwatch.webhook w SET log_id = x.log_id, unlogged = false
FROM unnest($1::bigint[]) WITH ORDINALITY AS g (webhook_id, n) JOIN written x ON x.n = g.n WHERE w.webhook_id = g.webhook_id;

-- name: mark_unlogged
-- The application's log does not say yet what became of these webhooks. $1 webhooks.
UPDATE paidwatch.webhook SET unlogged = true WHERE webhook_id = ANY ($1::bigint[]);

-- name: relog_webhooks
-- What became of webhooks whose rows in the application's log were written before. $1 webhooks, $2 those rows, $3 entries.
WITH told AS MATERIALIZED (
    SELECT paidwatch.update_webhooks($2::text[], $3::text[]::jsonb[])::text AS said
)
UPDATE paidwatch.webhook w SET unlogged = false FROM told t WHERE w.webhook_id = ANY ($1::bigint[]) AND t.said IS NOT NULL;

-- name: unsettled_webhooks
-- Webhooks of which nothing was made for longer than $1, and those that the application's log knows nothing of: locked for the one
-- who settles them. $2 most, $3 the webhook behind which to look, $4 bytes of bodies behind which none is begun.
SELECT w.webhook_id, w.provider, w.received_at, w.body, w.headers, w.state, w.signature, w.problem, w.log_id, w.forward_state, w.last_error,
    w.forwarded_at
FROM paidwatch.webhook w
WHERE w.webhook_id IN (
    SELECT k.webhook_id FROM (
        SELECT l.webhook_id, sum(l.size) OVER (ORDER BY l.webhook_id) - l.size AS before
        FROM (
            SELECT f.webhook_id, (SELECT octet_length(b.body) FROM paidwatch.webhook b WHERE b.webhook_id = f.webhook_id) AS size
            FROM (
                SELECT r.webhook_id FROM paidwatch.webhook r WHERE r.state = 'received' AND r.received_at < now() - $1::interval
                    AND r.webhook_id > $3::bigint
                UNION ALL
                SELECT u.webhook_id FROM paidwatch.webhook u WHERE u.unlogged AND u.webhook_id > $3::bigint
                ORDER BY 1 LIMIT $2::integer
            ) f
        ) l
    ) k
    WHERE k.before < $4::integer)
ORDER BY w.webhook_id FOR UPDATE OF w SKIP LOCKED;

-- name: claim_forwards
-- Leases what one provider's handler is due to be passed: per payment only the oldest. $1 provider, $2 lease, $3 name of the lease,
-- $4 most. A handler that takes nothing is asked with one webhook only.
WITH due AS MATERIALIZED (
    SELECT w.webhook_id FROM paidwatch.webhook w
    WHERE w.provider = $1::text AND w.forward_state = 'due' AND w.forward_at <= now()
        -- By a subquery and not by an anti-join: each payment is looked up by its key, however little is known of the table.
        AND (SELECT true FROM paidwatch.webhook e WHERE (e.provider || ' ' || e.reference) = (w.provider || ' ' || w.reference)
            AND e.forward_state = 'due' AND e.webhook_id < w.webhook_id LIMIT 1) IS NULL
        AND NOT EXISTS (SELECT FROM paidwatch.forward_target t WHERE t.provider = $1::text AND t.not_before > now())
    ORDER BY w.forward_at
    LIMIT CASE WHEN EXISTS (SELECT FROM paidwatch.forward_target t WHERE t.provider = $1::text AND t.down_since IS NOT NULL) THEN least(1, $4::integer)
        ELSE $4::integer END
    FOR UPDATE OF w SKIP LOCKED
)
UPDATE paidwatch.webhook w SET lease = $3::text, lease_until = now() + $2::interval, forward_at = now() + $2::interval,
    forward_attempts = w.forward_attempts + 1
FROM due d WHERE w.webhook_id = d.webhook_id
RETURNING w.webhook_id, w.provider, w.received_at, w.body, w.headers, w.reference, w.log_id, w.forward_attempts, w.forward_since, now() AS now,
    coalesce((SELECT t.failures FROM paidwatch.forward_target t WHERE t.provider = $1::text), 0) AS failures;

-- name: next_forward
-- How long until there is something to be passed to one provider's handler; NULL: nothing is queued. $1 provider.
SELECT greatest(w.forward_at, (SELECT t.not_before FROM paidwatch.forward_target t WHERE t.provider = $1::text)) - clock_timestamp() AS wait
FROM paidwatch.webhook w
WHERE w.provider = $1::text AND w.forward_state = 'due'
    AND (SELECT true FROM paidwatch.webhook e WHERE (e.provider || ' ' || e.reference) = (w.provider || ' ' || w.reference)
        AND e.forward_state = 'due' AND e.webhook_id < w.webhook_id LIMIT 1) IS NULL
ORDER BY w.forward_at LIMIT 1;

-- name: record_forward_attempt
-- The log of requests. $1 webhook, $2 took, $3 result, $4 code, $5 error.
INSERT INTO paidwatch.forward_attempt (webhook_id, took, result, code, error)
SELECT w.webhook_id, $2::interval, $3::text, $4::text, $5::text FROM paidwatch.webhook w WHERE w.webhook_id = $1::bigint;

-- name: record_forwarded
-- The application took it. A handler that took nothing until now is asked for everything that waited. $1 webhook, $2 lease, $3 code.
WITH done AS (
    UPDATE paidwatch.webhook w SET forward_state = 'done', forwarded_at = clock_timestamp(), forward_at = NULL, lease = NULL, lease_until = NULL,
        last_code = $3::text, last_error = NULL, unlogged = true
    WHERE w.webhook_id = $1::bigint AND w.lease = $2::text AND w.forward_state = 'due'
    RETURNING w.webhook_id, w.provider, w.replayed_by
), works AS (
    UPDATE paidwatch.forward_target t SET failures = 0, not_before = NULL, down_since = NULL, down_reason = NULL
    FROM done d WHERE t.provider = d.provider AND t.failures > 0
    RETURNING t.provider
), released AS (
    UPDATE paidwatch.webhook w SET forward_at = now() FROM works s
    WHERE w.provider = s.provider AND w.forward_state = 'due' AND w.lease IS NULL AND w.forward_at > now() AND w.webhook_id <> $1::bigint
)
SELECT d.replayed_by IS NOT NULL AS replayed, EXISTS (SELECT FROM works) AS works FROM done d;

-- name: record_forward_retry
-- Not taken; again after $3. $4 code, $5 why, $6 what the handler wants us to wait before anything else (NULL: it did not say), $7 from
-- how many failures in a row on it counts as down, and is asked with one webhook at a time. Returns for how long it has been down.
WITH mine AS (
    UPDATE paidwatch.webhook w SET forward_at = now() + $3::interval, lease = NULL, lease_until = NULL, last_code = $4::text, last_error = $5::text
    WHERE w.webhook_id = $1::bigint AND w.lease = $2::text AND w.forward_state = 'due'
    RETURNING w.provider
)
INSERT INTO paidwatch.forward_target AS t (provider, failures, not_before, down_since, down_reason)
SELECT m.provider, 1, now() + $6::interval, CASE WHEN $7::integer <= 1 THEN now() END, $5::text FROM mine m
ON CONFLICT (provider) DO UPDATE SET failures = t.failures + 1, down_reason = $5::text,
    down_since = CASE WHEN t.down_since IS NOT NULL THEN t.down_since WHEN t.failures + 1 >= $7::integer THEN now() END,
    not_before = greatest(t.not_before, excluded.not_before, CASE WHEN t.failures + 1 >= $7::integer THEN now() + $3::interval END)
RETURNING now() - t.down_since AS down_for;

-- name: record_forward_dead
-- Never to be taken, or tried for too long: kept until somebody replays it. $3 code, $4 why.
UPDATE paidwatch.webhook w SET forward_state = 'dead', forward_at = NULL, lease = NULL, lease_until = NULL, last_code = $3::text,
    last_error = $4::text, unlogged = true
WHERE w.webhook_id = $1::bigint AND w.lease = $2::text AND w.forward_state = 'due'
RETURNING w.webhook_id;

-- name: tell_forward
-- One alert per provider whose webhooks the application does not take, due on every channel of $4 unless a silence fits: now, or at $6,
-- the end of the quiet hours. $1 provider, $2 cause, $3 lines, $5 severity. Returns nothing where it is open already.
WITH told AS (
    INSERT INTO paidwatch.alert (kind, method, cause, notes, severity, silence_id)
    SELECT 'forward_failed', $1::text, $2::text, $3::text[], $5::text, (
        SELECT s.silence_id FROM paidwatch.silence s
        WHERE s.ended_at IS NULL AND s.expires_at > now() AND s.user_id IS NULL AND s.plan_id IS NULL
            AND (s.method IS NULL OR lower(s.method) = lower($1::text)) AND (s.kind IS NULL OR s.kind = 'forward_failed')
        ORDER BY s.expires_at DESC, s.silence_id LIMIT 1)
    ON CONFLICT DO NOTHING
    RETURNING alert_id, silence_id
), looked AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, note)
    SELECT t.alert_id, k.what, k.note FROM told t
    CROSS JOIN LATERAL (VALUES ('opened', ''), (CASE WHEN t.silence_id IS NOT NULL THEN 'silenced' END, format('silence %s', t.silence_id))) AS k (what, note)
    WHERE k.what IS NOT NULL
), queued AS (
    INSERT INTO paidwatch.delivery (alert_id, channel, due_at, waits_for)
    SELECT t.alert_id, c.name, coalesce($6::timestamptz, now()), CASE WHEN $6::timestamptz IS NOT NULL THEN 'quiet' END
    FROM told t CROSS JOIN unnest($4::text[]) AS c (name) WHERE t.silence_id IS NULL
)
SELECT t.alert_id FROM told t;

-- name: forward_over
-- The alert of one provider ends: its handler takes webhooks, and no dead letter is left. Whoever was told is told that. $1 provider.
WITH over AS (
    UPDATE paidwatch.alert a SET state = 'resolved', outcome = 'ended', resolved_at = now(), revision = a.revision + 1, remind_at = NULL,
        escalate_at = NULL, look_at = NULL, acked_until = NULL
    WHERE a.kind = 'forward_failed' AND a.method = $1::text AND a.state <> 'resolved'
        AND NOT EXISTS (SELECT FROM paidwatch.webhook w WHERE w.provider = $1::text AND w.forward_state = 'dead')
        AND NOT EXISTS (SELECT FROM paidwatch.webhook w WHERE w.provider = $1::text AND w.forward_state = 'due' AND w.replayed_by IS NOT NULL)
    RETURNING a.alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what) SELECT o.alert_id, 'resolved' FROM over o
), queued AS (
    UPDATE paidwatch.delivery x SET due_at = CASE WHEN x.lease_until > now() THEN x.due_at ELSE greatest(now(), coalesce(x.not_before, now())) END
    FROM over o WHERE x.alert_id = o.alert_id AND (x.dead_at IS NULL OR x.told_revision > 0)
)
SELECT o.alert_id FROM over o;

-- name: release_forwards
-- A new leader is the only one who passes on: what its predecessor had under way is due now.
UPDATE paidwatch.webhook SET forward_at = now(), lease = NULL, lease_until = NULL WHERE forward_state = 'due' AND lease IS NOT NULL;

-- name: list_webhooks
-- Webhooks as a person looks at them, the newest first. $1 provider or NULL, $2 state or NULL, $3 forward state or NULL, $4 reference or
-- NULL, $5 most.
SELECT w.webhook_id, w.provider, w.received_at, w.state, w.signature, w.problem, w.reference, w.status, w.duplicate_of, w.log_id,
    octet_length(w.body) AS size, w.forward_state, w.forward_at, w.forward_attempts, w.forwarded_at, w.lease IS NOT NULL AS under_way,
    w.last_code, w.last_error, w.replayed_by
FROM paidwatch.webhook w
WHERE ($1::text IS NULL OR w.provider = $1::text) AND ($2::text IS NULL OR w.state = $2::text)
    AND ($3::text IS NULL OR w.forward_state = $3::text) AND ($4::text IS NULL OR w.reference = $4::text)
ORDER BY w.webhook_id DESC LIMIT $5::integer;

-- name: webhooks_logged
-- Whether the application's log holds any webhook.
SELECT EXISTS (SELECT FROM paidwatch.webhooks) AS logged;

-- name: show_webhook
-- One webhook with everything that was kept. $1 its number.
SELECT w.webhook_id, w.provider, w.received_at, w.state, w.signature, w.problem, w.reference, w.status, w.duplicate_of, w.log_id,
    octet_length(w.body) AS size, w.forward_state, w.forward_at, w.forward_attempts, w.forwarded_at, w.lease IS NOT NULL AS under_way,
    w.last_code, w.last_error, w.replayed_by, w.body, w.headers, t.down_since, t.down_reason, t.not_before
FROM paidwatch.webhook w LEFT JOIN paidwatch.forward_target t ON t.provider = w.provider
WHERE w.webhook_id = $1::bigint;

-- name: forward_attempts_of
-- Every request by which one webhook was passed on, the oldest first. $1 webhook.
SELECT f.at, f.took, f.result, f.code, f.error FROM paidwatch.forward_attempt f WHERE f.webhook_id = $1::bigint ORDER BY f.attempt_id;

-- name: replay_webhooks
-- Dead letters are passed on anew with all their time, rejected ones are read anew; with $3 those that were passed on already, or
-- never were to be, are passed on (again). $1 webhooks, or NULL for all dead letters; $2 who wants it. What has no body any more stays.
UPDATE paidwatch.webhook w SET replayed_by = $2::text, lease = NULL, lease_until = NULL,
    state = CASE WHEN w.state = 'rejected' THEN 'received' ELSE w.state END,
    forward_state = CASE WHEN w.state = 'rejected' THEN 'none' ELSE 'due' END,
    forward_at = CASE WHEN w.state <> 'rejected' THEN now() END, forward_since = CASE WHEN w.state <> 'rejected' THEN now() END,
    forward_attempts = 0, unlogged = w.state <> 'rejected'
WHERE CASE WHEN $1::bigint[] IS NULL THEN w.forward_state = 'dead'
    ELSE w.webhook_id = ANY ($1::bigint[]) AND (w.forward_state = 'dead' OR w.state = 'rejected'
        OR $3::boolean AND w.state = 'verified' AND w.forward_state <> 'due' AND w.body <> '') END
RETURNING w.webhook_id, w.provider, w.state;

-- name: ask_target_now
-- A person wants something passed on: the handler is asked at once, whatever it wanted us to wait. $1 providers.
UPDATE paidwatch.forward_target SET not_before = NULL WHERE provider = ANY ($1::text[]);

-- name: purge_webhooks
-- Removes webhooks that were received longer ago than $1 and are not to be passed on any more, at most $2; returns how many. Of one that was
-- believed a row without body and headers stays for 90 days more, so that a late repeat, or whoever has a copy of it, does nothing: not
-- every signature has a time in it.
WITH old AS MATERIALIZED (
    SELECT w.webhook_id, w.state = 'verified' AND w.received_at >= now() - $1::interval - interval '90 days' AS stays FROM paidwatch.webhook w
    WHERE w.forward_state <> 'due' AND w.webhook_id = ANY (ARRAY(
        (SELECT k.webhook_id FROM paidwatch.webhook k WHERE (k.body <> '' OR k.state <> 'verified') AND k.received_at < now() - $1::interval
            AND k.forward_state <> 'due' ORDER BY k.received_at LIMIT $2::integer)
        UNION (SELECT k.webhook_id FROM paidwatch.webhook k WHERE k.received_at < now() - $1::interval - interval '90 days'
            AND k.forward_state <> 'due' ORDER BY k.received_at LIMIT $2::integer)
        LIMIT $2::integer))
    FOR UPDATE SKIP LOCKED
), emptied AS (
    UPDATE paidwatch.webhook w SET body = '', headers = '[]', last_error = NULL, unlogged = false,
        forward_state = CASE w.forward_state WHEN 'dead' THEN 'none' ELSE w.forward_state END
    FROM old o WHERE o.stays AND w.webhook_id = o.webhook_id
), forgotten AS (
    DELETE FROM paidwatch.forward_attempt f USING old o WHERE o.stays AND f.webhook_id = o.webhook_id
), gone AS (
    DELETE FROM paidwatch.webhook w USING old o WHERE NOT o.stays AND w.webhook_id = o.webhook_id
)
SELECT count(*) FROM old;
