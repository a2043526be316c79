-- name: readable_payments
-- One row through the view of payments: are its columns and rights still as they were installed?
SELECT t.* FROM paidwatch.payments t LIMIT 1;

-- name: readable_subscribers
-- One row through the view of users.
SELECT t.* FROM paidwatch.subscribers t LIMIT 1;

-- name: readable_plans
-- One row through the view of plans.
SELECT t.* FROM paidwatch.plans t LIMIT 1;

-- name: readable_events
-- One row through the view of events.
SELECT t.* FROM paidwatch.events t LIMIT 1;

-- name: readable_webhooks
-- One row through the view of webhook logs.
SELECT t.* FROM paidwatch.webhooks t LIMIT 1;

-- name: role_exists
-- $1 role.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1::text) AS found;

-- name: missing_rights
-- What paidwatch.grant_runtime gives and the role does not have. $1 role.
SELECT w.object, w.privilege, w.activation FROM (
    SELECT t.name AS object, p AS privilege, has_table_privilege($1::text, t.name, p) AS granted, false AS activation
    FROM (VALUES ('paidwatch.payments', ARRAY['SELECT']), ('paidwatch.subscribers', ARRAY['SELECT']), ('paidwatch.plans', ARRAY['SELECT']),
        ('paidwatch.events', ARRAY['SELECT']), ('paidwatch.webhooks', ARRAY['SELECT']), ('paidwatch.migration', ARRAY['SELECT']),
        ('paidwatch.installation', ARRAY['SELECT']), ('paidwatch.audit', ARRAY['SELECT', 'INSERT']),
        ('paidwatch.inbox', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), ('paidwatch.watch', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('paidwatch.alert', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), ('paidwatch.delivery', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('paidwatch.attempt', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), ('paidwatch.channel', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('paidwatch.activation', ARRAY['SELECT', 'INSERT', 'UPDATE']), ('paidwatch.silence', ARRAY['SELECT', 'INSERT', 'UPDATE']),
        ('paidwatch.alert_history', ARRAY['SELECT', 'INSERT']), ('paidwatch.webhook', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('paidwatch.forward_attempt', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), ('paidwatch.forward_target', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('paidwatch.reading', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), ('paidwatch.reading_name', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('paidwatch.unread', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']), ('paidwatch.claim', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'])) AS t (name, needs), unnest(t.needs) AS p
    UNION ALL
    SELECT 'schema paidwatch', 'USAGE', has_schema_privilege($1::text, 'paidwatch', 'USAGE'), false
    UNION ALL
    SELECT 'paidwatch.installation', 'UPDATE (' || c || ')', has_column_privilege($1::text, 'paidwatch.installation', c, 'UPDATE'), false
    FROM unnest(ARRAY['baseline_at', 'listening_at', 'digest_at', 'audited_at']) AS c
    UNION ALL
    SELECT f, 'EXECUTE', has_function_privilege($1::text, f, 'EXECUTE'), false
    FROM unnest(ARRAY['paidwatch.write_webhooks(jsonb[], text[])', 'paidwatch.update_webhooks(text[], jsonb[])']) AS f
    UNION ALL
    SELECT f, 'EXECUTE', has_function_privilege($1::text, f, 'EXECUTE'), true
    FROM unnest(ARRAY['paidwatch.lock_subscriber(paidwatch.user_key)', 'paidwatch.write_subscriber(paidwatch.user_key, jsonb)',
        'paidwatch.write_event(paidwatch.user_key, text, jsonb, text)', 'paidwatch.compare_subscriber(paidwatch.user_key, jsonb)',
        'paidwatch.restore_subscriber(paidwatch.user_key, jsonb, jsonb)']) AS f
) w WHERE NOT w.granted;

-- name: recent_index
-- The statements that would make or mend the index of recent paid payments; none when it is well.
SELECT s.statement FROM paidwatch.installation i CROSS JOIN LATERAL paidwatch.index_statement(i.mapping) AS s (statement);

-- name: missing_indexes
-- Lookups that read a whole table of more than $1 rows, each with the index that would help; a partitioned table cannot have it
-- made concurrently.
SELECT t.tab::text AS relation, t.col, greatest(c.reltuples, (SELECT sum(r.reltuples) FROM pg_inherits h JOIN pg_class r ON r.oid = h.inhrelid
        WHERE h.inhparent = t.tab))::bigint AS tuples,
    format('CREATE INDEX %s %s (%I);', CASE c.relkind WHEN 'p' THEN 'ON' ELSE 'CONCURRENTLY ON' END, t.tab, t.col) AS statement
FROM paidwatch.installation i
CROSS JOIN (VALUES ('payments', 'user'), ('events', 'user'), ('webhooks', 'payment'), ('webhooks', 'user')) AS w (section, field)
CROSS JOIN LATERAL (
    SELECT paidwatch.named_table(w.section, i.mapping -> w.section ->> 'table') AS tab, i.mapping -> w.section ->> w.field AS col
) t
JOIN pg_class c ON c.oid = t.tab
WHERE greatest(c.reltuples, (SELECT sum(r.reltuples) FROM pg_inherits h JOIN pg_class r ON r.oid = h.inhrelid WHERE h.inhparent = t.tab)) > $1::bigint
    AND paidwatch.column_type(t.tab, t.col) IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        WHERE x.indrelid = t.tab AND x.indisvalid AND x.indpred IS NULL AND a.attname = t.col);

-- name: event_columns
-- Columns of the events table that an activation could not fill.
SELECT paidwatch.unsupplied_event_columns(i.mapping -> 'events') AS columns FROM paidwatch.installation i;

-- name: event_times
-- Whether the column of the time of events can be read as one.
SELECT paidwatch.instant(paidwatch.named_table('events', i.mapping -> 'events' ->> 'table'), i.mapping -> 'events' ->> 'created_at', 'UTC')
    NOT LIKE 'NULL%' AS timed
FROM paidwatch.installation i;

-- name: undated_events
-- Events that count and have no time, of users about whom something is decided: $1 with gaps, $1 whose payments wait, $1 of the newest
-- alerts. By the key of the user, and no more than ten of each.
SELECT coalesce(sum(e.undated), 0)::integer AS undated
FROM (
    (SELECT w.user_id FROM paidwatch.watch w WHERE w.state = 'gap' AND w.user_id IS NOT NULL LIMIT $1::integer)
    UNION
    (SELECT w.user_id FROM paidwatch.watch w WHERE w.due_at IS NOT NULL AND w.user_id IS NOT NULL ORDER BY w.due_at LIMIT $1::integer)
    UNION
    (SELECT a.user_id FROM paidwatch.alert a WHERE a.user_id IS NOT NULL ORDER BY a.alert_id DESC LIMIT $1::integer)
) u
CROSS JOIN LATERAL (
    SELECT count(*) AS undated FROM (
        SELECT FROM paidwatch.events x WHERE x.user_id = u.user_id AND x.class IN ('activated', 'deliberate') AND x.created_at IS NULL LIMIT 10) few
) e;

-- name: zones
-- The configured zone, the one the server thinks in, and the newest payment: a moment in the future betrays a wrong zone.
SELECT z.configured, z.server, (now() AT TIME ZONE z.configured) <> (now() AT TIME ZONE z.server) AS differ, z.naive, now() AS now,
    (SELECT p.settled_at FROM paidwatch.payments p WHERE p.paid ORDER BY p.settled_at DESC LIMIT 1) AS newest
FROM (
    SELECT i.mapping ->> 'time_zone' AS configured,
        coalesce((SELECT substr(c, 10) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN unnest(s.setconfig) AS c
                  WHERE d.datname = current_database() AND s.setrole = 0 AND c ILIKE 'timezone=%'), current_setting('log_timezone')) AS server,
        EXISTS (SELECT FROM unnest(ARRAY['completed_at', 'updated_at', 'created_at']) AS f WHERE paidwatch.column_type(
            paidwatch.named_table('payments', i.mapping -> 'payments' ->> 'table'), i.mapping -> 'payments' ->> f) = 'timestamp'::regtype) AS naive
    FROM paidwatch.installation i
) z;

-- name: notification_queue
-- How full the queue of notifications is, from 0 to 1; triggers stop ringing at one half.
SELECT pg_notification_queue_usage() AS used;

-- name: daemons
-- Who leads (granted) and who stands by.
SELECT l.pid, l.granted, a.backend_start, a.client_addr::text AS client FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid::bigint << 32 | l.objid::bigint = paidwatch.leadership()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY l.granted DESC, l.pid;

-- name: bell_holders
-- Transactions that wrote and have not ended for longer than $1: while they share the bell the daemon cannot fall asleep.
SELECT a.pid::text AS who, a.usename::text AS role, a.application_name AS application, a.state, now() - a.xact_start AS age
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid::bigint << 32 | l.objid::bigint = paidwatch.bell()
    AND l.database = a.datid AND a.datname = current_database() AND l.mode = 'ShareLock' AND l.granted AND a.xact_start < now() - $1::interval
ORDER BY age DESC;

-- name: prepared_transactions
-- Transactions that were prepared longer than $1 ago and neither committed nor rolled back.
SELECT x.gid, x.owner::text AS role, now() - x.prepared AS age FROM pg_prepared_xacts x
WHERE x.database = current_database() AND x.prepared < now() - $1::interval ORDER BY age DESC;

-- name: work
-- What waits to be done, counted up to $1. $2 is how long past its moment something counts as overdue.
SELECT now() AS now,
    (SELECT count(*) FROM (SELECT FROM paidwatch.inbox LIMIT $1::integer) AS few) AS inbox,
    (SELECT min(few.at) FROM (SELECT i.at FROM paidwatch.inbox i LIMIT $1::integer) AS few) AS inbox_oldest,
    (SELECT count(*) FROM (SELECT FROM paidwatch.watch WHERE due_at < now() - $2::interval LIMIT $1::integer) AS few) AS overdue,
    (SELECT min(due_at) FROM paidwatch.watch WHERE due_at IS NOT NULL) AS overdue_oldest,
    (SELECT count(*) FROM (SELECT FROM paidwatch.watch WHERE due_at IS NOT NULL AND failures > 0 LIMIT $1::integer) AS few) AS unreadable,
    (SELECT count(*) FROM (SELECT FROM paidwatch.activation WHERE due_at < now() - $2::interval LIMIT $1::integer) AS few) AS activations,
    (SELECT count(*) FROM paidwatch.activation a JOIN paidwatch.watch w ON w.payment_id = a.payment_id
        WHERE a.state = 'failed' AND w.state = 'gap') AS failed_activations,
    (SELECT count(*) FROM paidwatch.watch WHERE state = 'gap') AS gaps;

-- name: undelivered
-- What each channel has still to be told, since when, and what it gave up on. Test messages do not count.
SELECT d.channel, count(*) FILTER (WHERE d.due_at IS NOT NULL) AS waiting,
    min(coalesce(d.trying_since, d.due_at)) FILTER (WHERE d.due_at IS NOT NULL) AS oldest,
    count(*) FILTER (WHERE d.dead_at IS NOT NULL) AS dead, (array_agg(d.last_error ORDER BY d.dead_at DESC NULLS LAST)
        FILTER (WHERE d.last_error IS NOT NULL))[1] AS error, now() AS now
FROM paidwatch.delivery d JOIN paidwatch.alert a ON a.alert_id = d.alert_id
WHERE (d.due_at IS NOT NULL OR d.dead_at IS NOT NULL) AND a.kind <> 'test'
GROUP BY d.channel ORDER BY d.channel;

-- name: channels_down
-- Channels that are broken until a person repairs them.
SELECT c.name, c.down_since, c.down_reason, c.not_before, now() AS now FROM paidwatch.channel c WHERE c.down_since IS NOT NULL ORDER BY c.name;

-- name: webhook_log_columns
-- Columns of the application's log of webhooks that the receiver could not fill.
SELECT paidwatch.unsupplied_webhook_columns(i.mapping -> 'webhooks') AS columns FROM paidwatch.installation i;

-- name: webhooks_by_provider
-- What came of each provider of $1, most of the newest $2 of each: those that the receiver took, of the newest 20000 of all, or else
-- those in the application's log under the methods of $3 (provider and method in pairs with $4).
WITH recent AS MATERIALIZED (
    SELECT w.provider, w.received_at AS at, w.state <> 'rejected' AS believed, w.problem
    FROM (SELECT * FROM paidwatch.webhook ORDER BY webhook_id DESC LIMIT 20000) w WHERE w.state <> 'received'
), seen AS (
    SELECT k.provider, r.at, r.believed, r.problem, true AS taken FROM unnest($1::text[]) AS k (provider)
    CROSS JOIN LATERAL (SELECT * FROM recent r WHERE r.provider = k.provider ORDER BY r.at DESC LIMIT $2::integer) r
    UNION ALL
    SELECT k.provider, r.at, r.valid, coalesce(r.error, 'the signature is wrong'), false FROM unnest($1::text[]) AS k (provider)
    CROSS JOIN LATERAL (
        SELECT x.at, x.valid, x.error FROM unnest($4::text[], $3::text[]) AS m (provider, method)
        JOIN paidwatch.reading x ON x.method = lower(m.method)
        WHERE m.provider = k.provider AND x.valid IS NOT NULL AND NOT EXISTS (SELECT FROM recent r WHERE r.provider = k.provider)
        ORDER BY x.at DESC LIMIT $2::integer
    ) r
)
SELECT k.provider, now() AS now, s.counted, s.believed, s.last_at, s.last_believed, coalesce(s.taken, false) AS taken,
    ARRAY(SELECT format('%s: %s', p.problem, count(*)) FROM seen p WHERE p.provider = k.provider AND NOT p.believed
          GROUP BY p.problem ORDER BY count(*) DESC, p.problem LIMIT 5) AS reasons
FROM unnest($1::text[]) WITH ORDINALITY AS k (provider, place)
CROSS JOIN LATERAL (
    SELECT count(*) AS counted, count(*) FILTER (WHERE s.believed) AS believed, max(s.at) AS last_at,
        (array_agg(s.believed ORDER BY s.at DESC))[1] AS last_believed, bool_or(s.taken) AS taken
    FROM seen s WHERE s.provider = k.provider
) s
ORDER BY k.place;

-- name: handler_failures
-- What the application says of webhooks that it could not handle, within $1: how many, the last one and the reasons, by method; and whether
-- paidwatch takes the method's webhooks itself: methods $2, each of the provider $3, of which something believed came among the newest 20000.
SELECT x.method, sum(x.times)::integer AS failed, max(x.last_at) AS last_at, now() AS now,
    EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS m (method, provider)
        JOIN (SELECT w.provider, w.state FROM paidwatch.webhook w ORDER BY w.webhook_id DESC LIMIT 20000) k ON k.provider = m.provider
        WHERE k.state <> 'rejected' AND lower(m.method) = lower(x.method)) AS taken,
    (array_agg(format('%s: %s', coalesce(nullif(left(x.error, 120), ''), 'no reason'), x.times) ORDER BY x.times DESC, x.error))[1:3] AS reasons
FROM (
    SELECT r.method, r.error, count(*) AS times, max(r.at) AS last_at FROM paidwatch.reading r
    WHERE r.at >= now() - $1::interval AND r.failed AND r.valid IS NOT FALSE
        AND NOT EXISTS (SELECT FROM paidwatch.webhook d WHERE d.log_id = r.log_id AND d.forward_state = 'dead')
        AND NOT EXISTS (SELECT FROM paidwatch.reading l WHERE l.method = r.method AND l.reference = r.reference AND l.at > r.at AND l.handled)
    GROUP BY r.method, r.error
) x
GROUP BY x.method ORDER BY x.method;

-- name: forwards_by_provider
-- What waits to be passed on, what was given up, and which handlers take nothing; and what is kept and not settled or logged for longer
-- than $1. Counted up to 10000 of each.
SELECT t.provider, now() AS now, t.waiting, t.oldest, t.dead, g.down_since, g.down_reason, t.unsettled
FROM (
    SELECT x.provider, count(*) FILTER (WHERE x.what = 'due') AS waiting, min(x.received_at) FILTER (WHERE x.what = 'due') AS oldest,
        count(*) FILTER (WHERE x.what = 'dead') AS dead, count(*) FILTER (WHERE x.what = 'left') AS unsettled
    FROM (
        (SELECT w.provider, w.received_at, 'due' AS what FROM paidwatch.webhook w WHERE w.forward_state = 'due' LIMIT 10000)
        UNION ALL
        (SELECT w.provider, w.received_at, 'dead' FROM paidwatch.webhook w WHERE w.forward_state = 'dead' LIMIT 10000)
        UNION ALL
        (SELECT w.provider, w.received_at, 'left' FROM paidwatch.webhook w WHERE w.state = 'received' AND w.received_at < now() - $1::interval LIMIT 10000)
        UNION ALL
        (SELECT w.provider, w.received_at, 'left' FROM paidwatch.webhook w WHERE w.unlogged AND w.received_at < now() - $1::interval LIMIT 10000)
    ) x GROUP BY x.provider
) t LEFT JOIN paidwatch.forward_target g ON g.provider = t.provider
ORDER BY t.provider;

-- name: questions_by_provider
-- How it went when providers ($1) were asked about payments, by the last question about each within $2; $3 are reasons that are about the
-- payment and not about the provider. None for a provider that was never asked.
SELECT k.provider, now() AS now, s.asked_at, s.problem, s.answered_at, s.asked, s.unanswered, s.failed,
    ARRAY(SELECT format('%s: %s', a.problem, count(*)) FROM paidwatch.answer a
          WHERE a.provider = k.provider AND a.problem <> '' AND a.asked_at >= now() - $2::interval
          GROUP BY a.problem ORDER BY count(*) DESC, a.problem) AS reasons
FROM unnest($1::text[]) WITH ORDINALITY AS k (provider, place)
CROSS JOIN LATERAL (
    SELECT max(a.asked_at) AS asked_at, max(a.answered_at) AS answered_at, (array_agg(a.problem ORDER BY a.asked_at DESC))[1] AS problem,
        count(*) FILTER (WHERE a.asked_at >= now() - $2::interval) AS asked,
        count(*) FILTER (WHERE a.asked_at >= now() - $2::interval AND a.problem <> '') AS unanswered,
        count(*) FILTER (WHERE a.asked_at >= now() - $2::interval AND a.problem <> '' AND a.problem <> ALL ($3::text[])) AS failed
    FROM paidwatch.answer a WHERE a.provider = k.provider AND a.asked_at IS NOT NULL
) s
WHERE s.asked_at IS NOT NULL
ORDER BY k.place;
