-- name: payment_owner
-- Whose payment it is, and what it bought. Fails where the text cannot be a key. $1 payment.
SELECT p.payment_id::text AS payment_id, p.user_id::text AS user_id, p.plan_id
FROM paidwatch.payments p WHERE p.payment_id = $1::text::paidwatch.payment_key;

-- name: lock_watch
-- Locks what the daemon would judge: watch before ledger, everywhere in this order. $1 payment.
SELECT w.state FROM paidwatch.watch w WHERE w.payment_id = $1::text::paidwatch.payment_key FOR UPDATE;

-- name: current_claim
-- Who has granted a payment, or is about to. $1 payment, or $2 method and $3 reference.
SELECT a.activation_id, a.state, a.actor, a.claimed_at FROM paidwatch.activation a
WHERE a.state IN ('claimed', 'calling', 'done')
    AND (a.payment_id = $1::text::paidwatch.payment_key OR a.reference IS NOT NULL AND a.names && CASE WHEN $3::text IS NOT NULL
        THEN paidwatch.told_names($2::text, $3::text)
        ELSE ARRAY(SELECT p.reference FROM paidwatch.payments p WHERE p.payment_id = $1::text::paidwatch.payment_key AND p.reference IS NOT NULL) END)
ORDER BY a.activation_id DESC LIMIT 1;

-- name: told_owner
-- Money of a user that signed webhooks tell of: whose it is, what it bought, and its row, where there is one. $1 user, $2 one of its names
-- (NULL: whatever stands as a gap).
SELECT DISTINCT r.method, r.reference, r.user_id::text AS user_id, r.plan_id, p.payment_id::text AS payment_id
FROM paidwatch.reading r
JOIN paidwatch.claim c ON c.method = r.method AND c.reference = r.reference
CROSS JOIN LATERAL (SELECT paidwatch.told_names(r.method, r.reference) AS names OFFSET 0) k
LEFT JOIN LATERAL (
    SELECT p.payment_id FROM paidwatch.payments p WHERE p.reference = ANY (k.names) ORDER BY p.paid DESC, p.payment_id DESC LIMIT 1
) p ON true
WHERE r.user_id = $1::text::paidwatch.user_key AND r.valid AND r.status = 'paid'
    AND CASE WHEN $2::text IS NULL THEN c.kind = 'orphan_webhook' ELSE $2::text = ANY (k.names) END
ORDER BY r.method, r.reference LIMIT 2;
