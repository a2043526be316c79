-- name: link_standing
-- What a link is measured by: whose installation this is, the time, and what came of the link if it was used. $1 its digest.
SELECT i.installation_id::text AS installation_id, now() AS now, u.used_at, u.result
FROM paidwatch.installation i LEFT JOIN paidwatch.link_use u ON u.digest = $1::text;

-- name: alert_is_open
-- Whether an alert about this payment is not over. $1 alert, $2 payment.
SELECT EXISTS (
    SELECT FROM paidwatch.alert a WHERE a.alert_id = $1::bigint AND a.payment_id = $2::text::paidwatch.payment_key AND a.state <> 'resolved');

-- name: use_link
-- Remembers that a link was used, and forgets links that expired long ago. $1 digest, $2 payment, $3 actor, $4 what came of it,
-- $5 when the link expires. Returns nothing where it was used before.
WITH old AS (
    DELETE FROM paidwatch.link_use l WHERE l.expires_at < now() - interval '30 days'
)
INSERT INTO paidwatch.link_use (digest, payment_id, actor, result, expires_at)
VALUES ($1::text, $2::text::paidwatch.payment_key, $3::text, $4::text, $5::timestamptz)
ON CONFLICT (digest) DO NOTHING
RETURNING digest;
