-- name: want_answers
-- Notes what providers are to be asked, in the transaction that opens or repeats the alerts. $1 methods, $2 references, $3 providers,
-- $4 payments (NULL: no payment's), $5 least time between two questions about one reference, $6 the problem of one who wants a pause.
-- Returns those that are asked now.
WITH wanted AS MATERIALIZED (
    SELECT DISTINCT ON (v.method, v.reference) v.*, q.until
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS v (method, reference, provider, payment_id)
    LEFT JOIN LATERAL (
        SELECT max(a.not_before) AS until FROM paidwatch.answer a WHERE a.provider = v.provider AND a.not_before > now()
    ) q ON true
    ORDER BY v.method, v.reference
)
INSERT INTO paidwatch.answer AS a (method, reference, provider, payment_id, ask_at, problem)
SELECT w.method, w.reference, w.provider, w.payment_id::paidwatch.payment_key, greatest(now(), w.until),
    CASE WHEN w.until IS NULL THEN '' ELSE $6::text END
FROM wanted w
ON CONFLICT (method, reference) DO UPDATE SET provider = excluded.provider, payment_id = coalesce(excluded.payment_id, a.payment_id),
    wanted_at = now(), ask_at = excluded.ask_at, tries = 0,
    problem = CASE WHEN excluded.problem <> '' THEN excluded.problem ELSE a.problem END
WHERE a.asked_at IS NULL AND a.ask_at IS NULL OR a.asked_at <= now() - $5::interval
RETURNING a.method, a.reference, a.ask_at <= now() AS now;

-- name: due_questions
-- What is to be asked now, of providers that want no pause. $1 providers, $2 most, $3 and $4 methods and references of those under way.
SELECT a.method, a.reference, a.provider FROM paidwatch.answer a
WHERE a.provider = ANY ($1::text[]) AND a.ask_at <= now()
    AND NOT EXISTS (SELECT FROM paidwatch.answer b WHERE b.provider = a.provider AND b.not_before > now())
    AND NOT EXISTS (SELECT FROM unnest($3::text[], $4::text[]) AS u (method, reference) WHERE u.method = a.method AND u.reference = a.reference)
ORDER BY a.ask_at LIMIT $2::integer;

-- name: next_question
-- How long until there is something to ask; NULL: there is nothing. $1 providers, $2 and $3 methods and references of those under way.
SELECT min(greatest(a.ask_at, (SELECT max(b.not_before) FROM paidwatch.answer b WHERE b.provider = a.provider AND b.not_before > now())))
    - clock_timestamp() AS wait
FROM paidwatch.answer a
WHERE a.provider = ANY ($1::text[]) AND a.ask_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS u (method, reference) WHERE u.method = a.method AND u.reference = a.reference);

-- name: lock_asked
-- Locks the payment's watch before the answer, in the order in which decisions lock them. $1 method, $2 reference.
SELECT w.payment_id::text AS payment_id FROM paidwatch.answer a JOIN paidwatch.watch w ON w.payment_id = a.payment_id
WHERE a.method = $1::text AND a.reference = $2::text FOR UPDATE OF w;

-- name: record_answer
-- The provider answered. $1 method, $2 reference, $3 status, $4 its word, $5 amount, $6 currency, $7 whether the money may
-- still come, so that it is asked again, $8 first pause, $9 longest pause, $10 most questions by itself.
-- Where it says something else than before, the payment, or the story of webhooks, is judged anew.
WITH former AS MATERIALIZED (
    SELECT a.method, a.reference, a.payment_id, a.status, a.amount, a.currency, a.answered_at < now() - interval '1 hour' AS stale,
        (a.status, a.said, a.amount, a.currency, a.problem) IS DISTINCT FROM ($3::text, $4::text, $5::numeric, $6::text, '') AS news
    FROM paidwatch.answer a WHERE a.method = $1::text AND a.reference = $2::text FOR UPDATE
), kept AS (
    UPDATE paidwatch.answer a SET status = $3::text, said = $4::text, amount = $5::numeric, currency = $6::text, answered_at = now(),
        asked_at = now(), problem = '', not_before = NULL, tries = a.tries + 1,
        ask_at = CASE WHEN $7::boolean AND a.tries + 1 < $10::integer AND (EXISTS (SELECT FROM paidwatch.watch w WHERE w.payment_id = a.payment_id AND w.state = 'gap')
                OR EXISTS (SELECT FROM paidwatch.claim c WHERE c.method = a.method AND c.reference = a.reference AND c.state = 'gap'))
            THEN now() + least($8::interval * power(2, least(a.tries, 12)), $9::interval) END
    FROM former f WHERE a.method = f.method AND a.reference = f.reference
), woken AS (
    UPDATE paidwatch.watch w SET due_at = now() FROM former f
    WHERE w.payment_id = f.payment_id AND w.state = 'gap' AND (w.due_at IS NULL OR w.due_at > now())
        AND (f.stale IS NOT FALSE OR (f.status, f.amount, f.currency) IS DISTINCT FROM ($3::text, $5::numeric, $6::text))
    RETURNING w.payment_id
), stirred AS (
    UPDATE paidwatch.claim c SET due_at = now() FROM former f
    WHERE c.method = f.method AND c.reference = f.reference AND c.state = 'gap' AND (c.due_at IS NULL OR c.due_at > now())
        AND (f.stale IS NOT FALSE OR (f.status, f.amount, f.currency) IS DISTINCT FROM ($3::text, $5::numeric, $6::text))
    RETURNING c.reference
)
SELECT EXISTS (SELECT FROM woken) OR EXISTS (SELECT FROM stirred) AS woken, f.payment_id::text AS payment_id, f.news FROM former f;

-- name: record_no_answer
-- The provider did not answer. $1 method, $2 reference, $3 why, $4 whether that passes, so that it is asked again, $5 first pause,
-- $6 longest pause, $7 most questions by itself, $8 the pause that the provider wants of everything (NULL: none).
WITH former AS MATERIALIZED (
    -- Beside an earlier answer this is no news: that stands until there is another one.
    SELECT a.method, a.reference, a.status IS NULL AND a.problem <> $3::text AS news FROM paidwatch.answer a
    WHERE a.method = $1::text AND a.reference = $2::text FOR UPDATE
), kept AS (
    UPDATE paidwatch.answer a SET asked_at = now(), problem = $3::text, tries = a.tries + 1, not_before = now() + $8::interval,
        ask_at = CASE WHEN $4::boolean AND a.tries + 1 < $7::integer AND (EXISTS (SELECT FROM paidwatch.watch w WHERE w.payment_id = a.payment_id AND w.state = 'gap')
                OR EXISTS (SELECT FROM paidwatch.claim c WHERE c.method = a.method AND c.reference = a.reference AND c.state = 'gap'))
            THEN now() + greatest(least($5::interval * power(2, least(a.tries, 12)), $6::interval), $8::interval) END
    FROM former f WHERE a.method = f.method AND a.reference = f.reference RETURNING a.provider, a.payment_id, f.news
), others AS (
    -- They wait as well, and say so.
    UPDATE paidwatch.answer o SET problem = $3::text
    FROM (SELECT b.method, b.reference FROM paidwatch.answer b
          WHERE $8::interval IS NOT NULL AND b.provider = (SELECT k.provider FROM kept k) AND b.ask_at IS NOT NULL
              AND (b.method, b.reference) <> ($1::text, $2::text)
          FOR UPDATE SKIP LOCKED) b
    WHERE o.method = b.method AND o.reference = b.reference
)
SELECT k.payment_id::text AS payment_id, k.news FROM kept k;

-- name: stop_asking
-- Nobody can be asked about this any more. $1 method, $2 reference, $3 why.
UPDATE paidwatch.answer SET ask_at = NULL, problem = $3::text WHERE method = $1::text AND reference = $2::text;

-- name: tell_answer
-- What a provider says of a payment is news: shown where a message can be edited, a moment later, because the payment may be judged anew
-- meanwhile; elsewhere the next reminder says it. $1 payments, $2 and $3 methods and references, $4 that moment.
WITH meant AS (
    SELECT a.alert_id FROM paidwatch.alert a WHERE a.payment_id = ANY ($1::text[]::paidwatch.payment_key[]) AND a.state <> 'resolved'
    UNION ALL
    SELECT a.alert_id FROM unnest($2::text[], $3::text[]) AS v (method, reference)
    JOIN paidwatch.alert a ON a.method = v.method AND a.reference = v.reference AND a.state <> 'resolved'
), moved AS (
    UPDATE paidwatch.alert a SET revision = a.revision + 1
    WHERE a.alert_id = ANY (ARRAY(SELECT m.alert_id FROM meant m)) AND a.silence_id IS NULL
        AND EXISTS (SELECT FROM paidwatch.delivery d WHERE d.alert_id = a.alert_id AND (d.told_revision > 0 OR d.lease IS NOT NULL))
    RETURNING a.alert_id, a.revision
)
UPDATE paidwatch.delivery x SET
    -- One under way is touched as well: whoever records its end waits, and sees that there is more to say.
    due_at = CASE WHEN x.edits AND x.lease IS NULL THEN coalesce(x.due_at, greatest(now() + $4::interval, x.not_before)) ELSE x.due_at END,
    told_revision = CASE WHEN x.edits OR x.due_at IS NOT NULL OR x.lease IS NOT NULL THEN x.told_revision ELSE m.revision END
FROM moved m
WHERE x.alert_id = m.alert_id AND (x.told_revision > 0 OR x.lease IS NOT NULL) AND x.dead_at IS NULL AND x.waits_for IS NULL
RETURNING x.edits AND x.lease IS NULL AS edits;

-- name: release_asked
-- Messages that waited for an answer, or for what follows on it, go now; those that wait for more than that stay. $1 payments, $2 and $3
-- methods and references, $4 the longest that a message waits for an answer.
WITH meant AS MATERIALIZED (
    SELECT a.alert_id, a.payment_id, a.method, a.reference, a.storm_until FROM paidwatch.alert a
    WHERE a.payment_id = ANY ($1::text[]::paidwatch.payment_key[]) AND a.state <> 'resolved'
    UNION ALL
    SELECT a.alert_id, a.payment_id, a.method, a.reference, a.storm_until FROM unnest($2::text[], $3::text[]) AS v (method, reference)
    JOIN paidwatch.alert a ON a.method = v.method AND a.reference = v.reference AND a.state <> 'resolved'
)
UPDATE paidwatch.delivery d SET due_at = greatest(now(), a.storm_until, d.not_before)
FROM meant a
WHERE d.alert_id = a.alert_id AND d.due_at > now() AND d.due_at <= now() + $4::interval AND d.trying_since IS NULL AND d.lease IS NULL
    AND d.dead_at IS NULL AND d.waits_for IS NULL
    AND NOT EXISTS (SELECT FROM paidwatch.activation x WHERE x.payment_id = a.payment_id AND x.state IN ('claimed', 'calling', 'done')
        AND x.state <> 'done')
    AND NOT EXISTS (SELECT FROM paidwatch.activation x WHERE x.method = a.method AND x.reference = a.reference AND x.state IN ('claimed', 'calling'))
    AND NOT EXISTS (SELECT FROM paidwatch.answer q WHERE q.method = a.method AND q.reference = a.reference AND q.ask_at <= now())
RETURNING d.delivery_id;

-- name: answers_about
-- What providers say, or why they could not be asked: $1 methods, $2 references, in pairs.
SELECT an.method, an.reference, an.wanted_at AS answer_wanted_at, an.status AS answer_status, an.said AS answer_said,
    an.amount AS answer_amount, an.currency AS answer_currency, an.answered_at, an.problem AS answer_problem, an.asked_at AS answer_tried_at
FROM unnest($1::text[], $2::text[]) AS k (method, reference)
JOIN paidwatch.answer an ON an.method = k.method AND an.reference = k.reference;

-- name: asked_of_alert
-- The method and the provider's reference that an alert is about, as they are asked about. $1 alert.
SELECT lower(CASE WHEN a.payment_id IS NULL THEN a.method ELSE coalesce(p.method, w.method, a.method) END) AS method,
    CASE WHEN a.payment_id IS NULL THEN a.reference ELSE p.reference END AS reference
FROM paidwatch.alert a
LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
LEFT JOIN paidwatch.payments p ON p.payment_id = a.payment_id
WHERE a.alert_id = $1::bigint;

-- name: purge_answers
-- $1 keep, $2 most rows.
WITH gone AS (
    DELETE FROM paidwatch.answer WHERE (method, reference) IN (
        SELECT a.method, a.reference FROM paidwatch.answer a WHERE a.wanted_at < now() - $1::interval ORDER BY a.wanted_at LIMIT $2::integer)
    RETURNING 1
)
SELECT count(*) AS removed FROM gone;
