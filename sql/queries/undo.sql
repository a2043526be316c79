-- name: activation_subject
-- What an activation is for, for the locks that come before the ledger's. $1 activation.
SELECT a.payment_id::text AS payment_id, a.method, a.reference FROM paidwatch.activation a WHERE a.activation_id = $1::bigint;

-- name: lock_activation
-- What undoing needs to know of an activation, which nobody else changes meanwhile. $1 activation.
SELECT a.activation_id, a.payment_id::text AS payment_id, a.method, a.reference, a.user_id::text AS user_id, a.state, a.strategy, a.actor,
    a.done_at, a.before::text AS before, a.after::text AS after, a.undone_at, a.undone_by, coalesce(p.reference, a.reference) AS named
FROM paidwatch.activation a LEFT JOIN paidwatch.payments p ON p.payment_id = a.payment_id
WHERE a.activation_id = $1::bigint FOR UPDATE OF a;

-- name: compare_subscriber
-- The columns in which a user's row differs from an image. $1 user, $2 image as JSON by column.
SELECT c.col, c.ours, c.present, c.writable FROM paidwatch.compare_subscriber($1::text::paidwatch.user_key, $2::text::jsonb) c;

-- name: restore_subscriber
-- Puts back what was there before, if the row is still what was written. $1 user, $2 what was written, $3 what was there before.
SELECT paidwatch.restore_subscriber($1::text::paidwatch.user_key, $2::text::jsonb, $3::text::jsonb)::text AS image;

-- name: finish_undo
-- $1 activation, $2 who, $3 why.
UPDATE paidwatch.activation SET state = 'undone', undone_at = now(), undone_by = $2::text, undone_why = $3::text, look_at = NULL
WHERE activation_id = $1::bigint AND state = 'done'
RETURNING activation_id, undone_at;

-- name: take_back_story
-- What was told as fixed is fixed no more: its watch ended on purpose, and so did the newest story about it. Further stories that stood
-- about the activation itself are over. $1 payment, or $6 method and $7 reference, $2 activation, $3 what is said about it, $4 who, $5 why.
WITH shut AS (
    UPDATE paidwatch.watch w SET outcome = 'ended', closed_at = now(), due_at = NULL
    WHERE w.payment_id = $1::text::paidwatch.payment_key AND w.state = 'closed' AND w.outcome IN ('fixed', 'activated')
), ended AS (
    UPDATE paidwatch.claim c SET outcome = 'ended', closed_at = now(), due_at = NULL
    WHERE c.method = $6::text AND c.reference = $7::text AND c.state = 'closed' AND c.outcome IN ('fixed', 'activated')
), told AS (
    UPDATE paidwatch.alert a SET outcome = 'ended', revision = a.revision + 1, notes = a.notes || $3::text
    WHERE a.alert_id = (SELECT max(k.alert_id) FROM (
            SELECT k.alert_id FROM paidwatch.alert k WHERE k.payment_id = $1::text::paidwatch.payment_key
            UNION ALL SELECT k.alert_id FROM paidwatch.alert k WHERE $7::text IS NOT NULL AND k.method = $6::text AND k.reference = $7::text) k)
        AND a.state = 'resolved' AND a.outcome IN ('fixed', 'ended')
    RETURNING a.alert_id
), over AS (
    UPDATE paidwatch.alert a SET state = 'resolved', outcome = 'ended', resolved_at = now(), revision = a.revision + 1, acked_until = NULL,
        remind_at = NULL, escalate_at = NULL, look_at = NULL
    WHERE a.activation_id = $2::bigint AND a.kind = 'double_activation' AND a.state <> 'resolved'
    RETURNING a.alert_id
), noted AS (
    INSERT INTO paidwatch.alert_history (alert_id, what, actor, note)
    SELECT t.alert_id, 'undone', $4::text, $5::text FROM told t
    UNION ALL SELECT o.alert_id, 'resolved', $4::text, $5::text FROM over o
)
SELECT t.alert_id FROM told t UNION ALL SELECT o.alert_id FROM over o;
