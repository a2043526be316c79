-- name: payment_owner
-- Whose payment it is, and what it bought. Fails where the text cannot be a key. $1 payment.
SELECT p.payment_id::text AS payment_id, p.user_id::text AS user_id, p.plan_id
FROM paidwatch.payments p WHERE p.payment_id = $1::text::paidwatch.payment_key;

-- name: lock_watch
-- Locks what the daemon would judge: watch before ledger, everywhere in this order. $1 payment.
SELECT w.state FROM paidwatch.watch w WHERE w.payment_id = $1::text::paidwatch.payment_key FOR UPDATE;

-- name: current_claim
-- Who has granted a payment, or is about to. $1 payment.
SELECT a.activation_id, a.state, a.actor, a.claimed_at FROM paidwatch.activation a
WHERE a.payment_id = $1::text::paidwatch.payment_key AND a.state IN ('claimed', 'calling', 'done');
