-- name: await_news
-- From now on somebody waits: whoever reads news tells of them. Held by the session; waits for no longer than one drain.
SELECT pg_advisory_lock_shared(paidwatch.customers());

-- name: tell_customers
-- A hint to those who wait for payments, sent at commit, if there are any: whoever changes what they are told calls this last.
SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN
    CASE WHEN NOT pg_try_advisory_xact_lock(paidwatch.customers()) THEN pg_notify('paidwatch_customers', '') END END AS told;

-- name: sessions
-- The payments that ids of the success page lead to, one row per id and payment. $1 ids; $2 which of them may be the key of a row;
-- $3 users, $4 plans, $5 times of those that are order ids, else NULL; $6 which of them may be an order's id. An order leads to the newest
-- payment of that user and plan.
WITH kind AS MATERIALIZED (
    SELECT p.typbasetype::regtype AS payments, u.typbasetype::regtype AS users
    FROM pg_type p, pg_type u WHERE p.oid = 'paidwatch.payment_key'::regtype AND u.oid = 'paidwatch.user_key'::regtype
), asked AS MATERIALIZED (
    SELECT q.n, q.id, q.plan_id, q.ordered_at, q.signed, CASE WHEN q.by_key AND CASE
            WHEN k.payments IN ('int2'::regtype, 'int4', 'int8') THEN CASE WHEN q.id ~ '^[0-9]{1,18}$' THEN q.id::bigint <=
                CASE k.payments WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END ELSE false END
            WHEN k.payments = 'uuid'::regtype THEN q.id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            ELSE true END THEN q.id END AS key,
        CASE WHEN CASE
            WHEN k.users IN ('int2'::regtype, 'int4', 'int8') THEN CASE WHEN q.user_id ~ '^[0-9]{1,18}$' THEN q.user_id::bigint <=
                CASE k.users WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END ELSE false END
            WHEN k.users = 'uuid'::regtype THEN q.user_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            ELSE true END THEN q.user_id END AS user_id
    FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::timestamptz[], $6::boolean[]) WITH ORDINALITY
        AS q (id, by_key, user_id, plan_id, ordered_at, signed, n)
    CROSS JOIN kind k
)
-- OFFSET 0: id by id, by index, whatever the statistics of young tables make the planner believe.
SELECT a.n, p.payment_id::text AS payment_id FROM asked a
CROSS JOIN LATERAL (SELECT p.payment_id FROM paidwatch.payments p WHERE p.reference = a.id LIMIT 2 OFFSET 0) p
UNION
-- The application may have kept another id of the same payment than the one that came back: a signed webhook names both.
SELECT a.n, p.payment_id::text FROM asked a
CROSS JOIN LATERAL (
    SELECT k.log_id, k.reference FROM paidwatch.reading k WHERE k.reference = a.id AND k.valid
    UNION ALL
    SELECT k.log_id, k.reference FROM paidwatch.reading_name m JOIN paidwatch.reading k ON k.log_id = m.log_id
    WHERE m.name = a.id AND k.valid AND (a.signed OR k.order_id IS DISTINCT FROM a.id)
    OFFSET 0
) k
CROSS JOIN LATERAL (
    SELECT k.reference AS name UNION ALL SELECT m.name FROM paidwatch.reading_name m WHERE m.log_id = k.log_id OFFSET 0
) o
CROSS JOIN LATERAL (SELECT p.payment_id FROM paidwatch.payments p WHERE p.reference = o.name LIMIT 2 OFFSET 0) p
UNION
SELECT a.n, p.payment_id::text FROM asked a
CROSS JOIN LATERAL (SELECT p.payment_id FROM paidwatch.payments p WHERE p.payment_id = a.key::paidwatch.payment_key OFFSET 0) p
UNION
SELECT a.n, p.payment_id::text FROM asked a
CROSS JOIN LATERAL (
    SELECT p.payment_id FROM paidwatch.payments p
    -- A day, because naive times may have been written in another zone.
    WHERE p.user_id = a.user_id::paidwatch.user_key AND p.plan_id = a.plan_id AND coalesce(p.created_at >= a.ordered_at - interval '1 day', true)
    ORDER BY p.created_at DESC NULLS LAST, p.payment_id DESC LIMIT 1
) p;

-- name: session_readings
-- What validly signed webhooks say of ids ($1) that lead to no payment row, with the user's access and the plan: one row per id,
-- the word that replaces the others. $2 which of them may be order ids as well. `now` is the database's.
SELECT q.n, now() AS now, r.reference, r.method, r.status, r.amount, r.currency, r.user_id::text AS user_id, r.plan_id,
    coalesce(paidwatch.readable(r.at), now()) AS at, u.user_id IS NOT NULL AS user_exists, u.enabled, u.admin, u.status AS user_status, u.status_active,
    u.tier, u.tier_rank, u.tier_watched, paidwatch.readable(u.paid_until) AS paid_until, u.paid_until_watched,
    paidwatch.readable(u.revoked_at) AS revoked_at,
    pl.plan_id IS NOT NULL AS plan_exists, (pl.prices ->> r.currency)::numeric AS price, pl.rank, pl.free, pl.duration
FROM unnest($1::text[], $2::boolean[]) WITH ORDINALITY AS q (id, signed, n)
CROSS JOIN LATERAL (
    SELECT k.* FROM (
        SELECT * FROM paidwatch.reading k WHERE k.reference = q.id AND k.valid
        UNION ALL
        SELECT k.* FROM paidwatch.reading_name m JOIN paidwatch.reading k ON k.log_id = m.log_id WHERE m.name = q.id AND k.valid
            AND k.order_id IS DISTINCT FROM q.id
        UNION ALL
        SELECT * FROM paidwatch.reading k WHERE q.signed AND k.order_id = q.id AND k.valid
    ) k
    ORDER BY array_position(ARRAY['reversed', 'paid', 'underpaid', 'failed', 'settling', 'pending'], k.status) NULLS LAST, k.at DESC LIMIT 1
) r
LEFT JOIN LATERAL (SELECT * FROM paidwatch.subscribers u WHERE u.user_id = r.user_id OFFSET 0) u ON true
LEFT JOIN LATERAL (SELECT * FROM paidwatch.plans pl WHERE pl.plan_id = r.plan_id OFFSET 0) pl ON true;
