-- Everything a verdict is made from, one row per payment, in canonical words. The same for the daemon and for `check`.
-- The ordinary case (paid, and access is as paid) is settled by one statement without these facts: see queries/decide.sql.

-- A moment within the calendar of the program that reads it: beyond it a far-away year and "for ever" are the same.
CREATE OR REPLACE FUNCTION paidwatch.readable(moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN moment IS NOT NULL
        THEN least(greatest(moment, timestamptz '0001-01-03 00:00:00+00'), timestamptz '9999-12-29 00:00:00+00') END
$$;

-- What the events of a user since `since` say about a payment that became paid at `paid_at`, and which `names` name. An event is this
-- payment's if its data bears one of the names; one that bears none is the user's. One without a
-- time is believed where it names the payment.
CREATE OR REPLACE FUNCTION paidwatch.event_evidence(who paidwatch.user_key, names text[], paid_at timestamptz, since timestamptz)
RETURNS TABLE (activated_at timestamptz, granted_at timestamptz, failed_at timestamptz, failed_reason text, acted_at timestamptz, act text)
LANGUAGE sql STABLE AS $$
SELECT max(coalesce(v.created_at, $3)) FILTER (WHERE v.class = 'activated' AND v.mine),
    max(v.created_at) FILTER (WHERE v.class = 'activated' AND v.created_at >= $3 - interval '5 minutes'),
    max(v.created_at) FILTER (WHERE v.class = 'failed' AND (v.mine OR v.nobodys AND v.created_at >= $3 - interval '5 minutes')),
    (array_agg(coalesce(v.d ->> 'reason', v.d ->> 'error', v.d ->> 'message') ORDER BY v.created_at DESC NULLS LAST)
        FILTER (WHERE v.class = 'failed' AND (v.mine OR v.nobodys)))[1],
    max(v.created_at) FILTER (WHERE v.class = 'deliberate' AND v.created_at >= $3),
    (array_agg(v.type ORDER BY v.created_at DESC) FILTER (WHERE v.class = 'deliberate' AND v.created_at >= $3))[1]
FROM (
    SELECT r.*, (r.refs && $2) AS mine, cardinality(r.refs) = 0 AS nobodys
    FROM (
        SELECT x.type, x.class, x.created_at, d.d,
            array_remove(ARRAY[d.d ->> 'payment_reference', d.d ->> 'payment_id', d.d ->> 'transaction_id'], NULL) AS refs
        FROM paidwatch.events x CROSS JOIN LATERAL (SELECT paidwatch.event_data(x.data) AS d) d
        WHERE x.user_id = $1 AND x.class IS NOT NULL AND (x.created_at >= $4 OR x.created_at IS NULL)
    ) r
) v
$$;

-- All by which signed webhooks name one payment of a provider, the order's id among them.
CREATE OR REPLACE FUNCTION paidwatch.told_names(wanted_method text, wanted_reference text) RETURNS text[]
LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT $2
        UNION SELECT r.order_id FROM paidwatch.reading r WHERE r.method = $1 AND r.reference = $2 AND r.valid AND r.order_id IS NOT NULL
        UNION SELECT n.name FROM paidwatch.reading r JOIN paidwatch.reading_name n ON n.log_id = r.log_id
            WHERE r.method = $1 AND r.reference = $2 AND r.valid)
$$;

DROP FUNCTION IF EXISTS paidwatch.facts(paidwatch.payment_key[], text[], interval[], interval);
CREATE FUNCTION paidwatch.facts(ids paidwatch.payment_key[], methods text[], graces interval[], grace interval)
RETURNS TABLE (
    payment_id text, watch_state text, payment_exists boolean, user_id text, plan_id text, amount numeric, currency text, method text,
    reference text, status text, phase text, created_at timestamptz,
    user_exists boolean, label text, enabled boolean, admin boolean, user_status text, status_active boolean,
    tier text, tier_rank integer, tier_watched boolean, user_plan_id text, paid_until timestamptz, paid_until_watched boolean,
    revoked_at timestamptz,
    plan_exists boolean, plan_name text, price numeric, plan_rank integer, plan_free boolean, duration interval,
    paid_at timestamptz, grace_until timestamptz, touched_at timestamptz, noticed_at timestamptz,
    reversed_at timestamptz, settled_at timestamptz,
    activated_at timestamptz, granted_at timestamptz, failed_at timestamptz, failed_reason text, acted_at timestamptz, act text,
    ledger_at timestamptz, undone_at timestamptz, newer_payment_id text, newer_plan_id text, newer_rank integer, other_paid boolean,
    webhook_at timestamptz, webhook_status text, webhook_failed boolean, webhook_error text, webhook_valid boolean,
    webhook_signed boolean, webhook_paid_at timestamptz, webhook_moving_at timestamptz, webhook_short_at timestamptz,
    webhook_reversed_at timestamptz, webhooks_watched boolean,
    answer_status text, answer_said text, answer_amount numeric, answer_currency text, answered_at timestamptz
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    -- A few payments are looked up by key in tables of any size: no plan from the statistics of young tables.
    SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
    -- The names of what webhooks told of have an index that only a bitmap can read; the daemon's sessions have none.
    SET enable_bitmapscan = on AS $$
SELECT s.id::text, w.state, p.payment_id IS NOT NULL, c.user_id::text, coalesce(p.plan_id, w.plan_id), p.amount, p.currency,
    coalesce(p.method, w.method), p.reference, p.status, p.phase, paidwatch.readable(p.created_at),
    u.user_id IS NOT NULL, coalesce(u.label, u.name), u.enabled, u.admin, u.status, u.status_active,
    u.tier, u.tier_rank, u.tier_watched, u.plan_id, paidwatch.readable(u.paid_until), u.paid_until_watched,
    paidwatch.readable(u.revoked_at),
    pl.plan_id IS NOT NULL, pl.name, (pl.prices ->> p.currency)::numeric, pl.rank, pl.free, pl.duration,
    c.paid_at, c.grace_until, w.touched_at, w.noticed_at, coalesce(w.reversed_at, CASE WHEN p.phase = 'reversed' THEN c.paid_at END), w.settled_at,
    paidwatch.readable(e.activated_at), paidwatch.readable(e.granted_at), paidwatch.readable(e.failed_at), e.failed_reason,
    paidwatch.readable(e.acted_at), e.act,
    -- For this row (in the words of its index, and done), or for what webhooks told of before there was this row.
    coalesce((SELECT a.done_at FROM paidwatch.activation a WHERE a.payment_id = s.id AND a.state IN ('claimed', 'calling', 'done') AND a.state NOT IN ('claimed', 'calling')),
        (SELECT max(a.done_at) FROM paidwatch.activation a WHERE a.names @> ARRAY[p.reference] AND a.reference IS NOT NULL AND a.state = 'done')),
    coalesce((SELECT max(a.undone_at) FROM paidwatch.activation a WHERE a.payment_id = s.id AND a.state = 'undone'),
        (SELECT max(a.undone_at) FROM paidwatch.activation a WHERE a.names @> ARRAY[p.reference] AND a.reference IS NOT NULL AND a.state = 'undone')), n.payment_id::text, n.plan_id, n.rank, coalesce(o.other_paid, false),
    paidwatch.readable(h.created_at), h.status, h.failed, h.error, h.valid, coalesce(r.signed, false),
    r.paid_at, r.moving_at, r.short_at, r.reversed_at,
    (SELECT NOT i.not_watched && ARRAY['webhooks', 'webhooks.id', 'webhooks.status', 'webhooks.created_at'] FROM paidwatch.installation i),
    an.status, an.said, an.amount, an.currency, an.answered_at
FROM unnest(ids) AS s (id)
LEFT JOIN paidwatch.watch w ON w.payment_id = s.id
LEFT JOIN paidwatch.payments p ON p.payment_id = s.id
CROSS JOIN LATERAL (
    SELECT coalesce(p.user_id, w.user_id) AS user_id, coalesce(w.paid_at, p.settled_at, now()) AS paid_at,
        coalesce(w.grace_until, coalesce(p.settled_at, now())
            + coalesce((SELECT g.span FROM unnest(methods, graces) AS g (method, span) WHERE lower(g.method) = lower(p.method)), grace)) AS grace_until
) c
LEFT JOIN paidwatch.subscribers u ON u.user_id = c.user_id
LEFT JOIN paidwatch.plans pl ON pl.plan_id = p.plan_id
-- From the payment's own beginning: one that was activated long ago and is paid once more was activated all the same.
LEFT JOIN LATERAL paidwatch.event_evidence(c.user_id, ARRAY[s.id::text, p.reference], c.paid_at, least(c.paid_at, p.created_at) - interval '2 days') e ON true
LEFT JOIN LATERAL (
    SELECT p2.payment_id, p2.plan_id, pl2.rank
    FROM paidwatch.payments p2
    LEFT JOIN paidwatch.watch w2 ON w2.payment_id = p2.payment_id
    LEFT JOIN paidwatch.plans pl2 ON pl2.plan_id = p2.plan_id
    WHERE p2.user_id = c.user_id AND p2.payment_id <> s.id AND p2.paid AND w2.reversed_at IS NULL
        AND p2.settled_at >= c.paid_at - interval '1 day'
        AND (coalesce(w2.paid_at, p2.settled_at), p2.payment_id) > (c.paid_at, s.id)
    ORDER BY pl2.rank DESC NULLS LAST, coalesce(w2.paid_at, p2.settled_at) DESC, p2.payment_id DESC LIMIT 1
) n ON p.paid
LEFT JOIN LATERAL (
    SELECT true AS other_paid
    FROM paidwatch.payments p3
    LEFT JOIN paidwatch.watch w3 ON w3.payment_id = p3.payment_id
    JOIN paidwatch.plans pl3 ON pl3.plan_id = p3.plan_id
    WHERE p3.user_id = c.user_id AND p3.payment_id <> s.id AND p3.paid AND w3.reversed_at IS NULL
        AND (pl3.rank >= pl.rank OR p3.plan_id = p.plan_id)
        AND coalesce(w3.paid_at, p3.settled_at) + pl3.duration > now()
    LIMIT 1
) o ON p.phase = 'reversed' OR w.reversed_at IS NOT NULL
LEFT JOIN LATERAL (
    SELECT h.created_at, h.status, h.failed, h.error, h.valid
    FROM paidwatch.webhooks h
    WHERE h.created_at >= c.paid_at - interval '1 day'
        AND (h.reference = p.reference OR h.reference = s.id::text OR h.user_id = c.user_id)
    ORDER BY h.created_at DESC LIMIT 1
) hu ON true
LEFT JOIN LATERAL (
    -- What was read of the log, in canonical words. Only a signed webhook that names the payment and says that the money is final
    -- confirms it; not one that speaks of a further deposit, nor any once the money went back, nor one of less money than the row
    -- says (but for rounding), or of money that cannot be compared with it.
    SELECT bool_or(x.valid AND x.status = 'paid' AND (x.amount IS NULL OR coalesce(x.amount >= 0.99
            * CASE WHEN coalesce(x.currency, p.currency) = p.currency THEN p.amount ELSE (pl.prices ->> x.currency)::numeric END, false)))
            AND NOT bool_or(x.valid IS TRUE AND (x.repeated OR x.status = 'reversed')) AS signed,
        min(x.at) FILTER (WHERE x.valid AND x.status = 'paid') AS paid_at,
        max(x.at) FILTER (WHERE x.valid AND x.status IN ('pending', 'settling')) AS moving_at,
        max(x.at) FILTER (WHERE x.valid AND x.status = 'underpaid') AS short_at,
        max(x.at) FILTER (WHERE x.valid AND x.status = 'reversed') AS reversed_at,
        (array_agg(x.log_id ORDER BY x.at DESC))[1] AS last_id, max(x.at) AS last_at
    FROM paidwatch.reading x WHERE x.log_id = ANY (ARRAY(
        -- Way by way, each by its index: one condition with OR may read the whole table.
        SELECT y.log_id FROM paidwatch.reading y WHERE y.reference = p.reference
        UNION ALL SELECT y.log_id FROM paidwatch.reading y WHERE y.order_id = p.reference
        -- The row's own key may be another provider's number of something else.
        UNION ALL SELECT y.log_id FROM (SELECT k.log_id, k.method FROM paidwatch.reading k WHERE k.reference = s.id::text OFFSET 0) y
            WHERE y.method = lower(p.method)
        UNION ALL SELECT y.log_id FROM paidwatch.reading_name y WHERE y.name = p.reference))
) r ON true
LEFT JOIN LATERAL (
    -- The row of the payment itself tells more than another one of the user.
    SELECT x.at AS created_at, CASE WHEN x.handled THEN 'completed' ELSE x.said END AS status, x.failed, x.error, x.valid
    FROM paidwatch.reading x WHERE x.log_id = r.last_id
    UNION ALL
    SELECT hu.created_at, hu.status, hu.failed, hu.error, hu.valid WHERE r.last_id IS NULL AND hu.created_at IS NOT NULL
) h ON true
-- What the provider said about this very reference, when it was asked.
LEFT JOIN paidwatch.answer an ON an.method = lower(coalesce(p.method, w.method)) AND an.reference = p.reference AND an.status IS NOT NULL
$$;
