-- name: due_calls
-- Activations over HTTP that are to be asked for, or whose tables are to be read. $1 most, $2 those under way here.
SELECT a.activation_id FROM paidwatch.activation a
WHERE a.due_at <= now() AND a.strategy = 'http' AND a.state IN ('claimed', 'calling') AND a.activation_id <> ALL ($2::bigint[])
ORDER BY a.due_at LIMIT $1::integer;

-- name: next_call
-- How long until there is something to do, apart from what is under way here. $1 those.
SELECT min(a.due_at) - clock_timestamp() FROM paidwatch.activation a
WHERE a.due_at IS NOT NULL AND a.strategy = 'http' AND a.state IN ('claimed', 'calling') AND a.activation_id <> ALL ($1::bigint[]);

-- name: take_call
-- Locks an activation that is claimed or being asked for. $1 activation.
SELECT a.activation_id, a.payment_id::text AS payment_id, a.method, a.reference, a.user_id::text AS user_id, a.state, a.actor, a.reason, a.attempts, a.forced,
    a.planned::text AS planned, a.before::text AS before, a.calls, a.answer, a.again_at, a.due_at,
    (SELECT i.installation_id::text FROM paidwatch.installation i) AS installation_id
FROM paidwatch.activation a WHERE a.activation_id = $1::bigint AND a.strategy = 'http' AND a.state IN ('claimed', 'calling') FOR UPDATE;

-- name: plan_call
-- What will be asked for, computed once. $1 activation, $2 plan, $3 the user before, $4 guards, $5 answered at the latest after this
-- span, $6 asked again no earlier than after this one.
UPDATE paidwatch.activation SET state = 'calling', planned = $2::text::jsonb, before = $3::text::jsonb, guards = $4::text::jsonb, calls = 1,
    called_at = clock_timestamp(), due_at = clock_timestamp() + $5::interval, again_at = clock_timestamp() + $6::interval,
    answer = NULL, error = NULL, attempts = 0
WHERE activation_id = $1::bigint AND state = 'claimed' AND strategy = 'http'
RETURNING calls;

-- name: call_again
-- $1 activation, $2 the call before, $3 guards, $4 answered at the latest after this span, $5 asked again no earlier than after this one.
UPDATE paidwatch.activation SET calls = calls + 1, guards = $3::text::jsonb, called_at = clock_timestamp(), answer = NULL,
    due_at = clock_timestamp() + $4::interval, again_at = clock_timestamp() + $5::interval, attempts = 0
WHERE activation_id = $1::bigint AND state = 'calling' AND calls = $2::integer
RETURNING calls;

-- name: call_is_fresh
-- Whether a call is the last one and younger than $3. $1 activation, $2 call.
SELECT EXISTS (
    SELECT FROM paidwatch.activation a WHERE a.activation_id = $1::bigint AND a.state = 'calling' AND a.calls = $2::integer
        AND a.called_at > clock_timestamp() - $3::interval);

-- name: note_answer
-- What the application answered to one call, unless another one was made since. $1 activation, $2 call, $3 answer, $4 the
-- application's wish to wait.
UPDATE paidwatch.activation SET answer = $3::text, again_at = greatest(again_at, clock_timestamp() + $4::interval)
WHERE activation_id = $1::bigint AND state = 'calling' AND calls = $2::integer
RETURNING calls, answer, again_at;

-- name: read_later
-- Reads the tables again at $3. $1 activation, $2 call.
UPDATE paidwatch.activation SET due_at = $3::timestamptz, attempts = 0
WHERE activation_id = $1::bigint AND state = 'calling' AND calls = $2::integer;

-- name: postpone_call
-- The database failed: again after $2 times two to the power of how often that was so in a row, at most $3. $1 activation, $4 why.
UPDATE paidwatch.activation SET due_at = clock_timestamp() + least($2::interval * power(2, least(attempts, 20)), $3::interval),
    attempts = attempts + 1, error = $4::text
WHERE activation_id = $1::bigint AND state IN ('claimed', 'calling')
RETURNING attempts, payment_id::text AS payment_id, method, reference;

-- name: end_call
-- $1 activation, $2 call, $3 state, $4 guards (NULL: as they were), $5 the user after, $6 event, $7 error.
UPDATE paidwatch.activation SET state = $3::text, done_at = now(), due_at = NULL, guards = coalesce($4::text::jsonb, guards),
    after = $5::text::jsonb, event_id = $6::text, error = $7::text, look_at = CASE WHEN $3::text = 'done' THEN now() END
WHERE activation_id = $1::bigint AND state = 'calling' AND calls = $2::integer
RETURNING activation_id;

-- name: call_ending
-- How an activation ended, if it did. $1 activation.
SELECT a.state, a.error FROM paidwatch.activation a WHERE a.activation_id = $1::bigint;

-- name: traces
-- The user's events that carry the mark of one activation, the newest first. $1 user, $2 mark.
SELECT x.event_id, coalesce(x.class = 'failed', false) AS failed FROM paidwatch.events x
WHERE x.user_id = $1::text::paidwatch.user_key AND strpos(x.data, $2::text) > 0
ORDER BY x.created_at DESC NULLS LAST LIMIT 20;
