-- name: put_test_first
-- A test message is claimed before everything else, so that nothing real is sent in its stead, whoever delivers. $1 delivery.
UPDATE paidwatch.delivery SET due_at = 'epoch' WHERE delivery_id = $1::bigint AND due_at IS NOT NULL AND lease IS NULL RETURNING delivery_id;

-- name: try_broken
-- Somebody says by a test that a broken channel was repaired: it may be asked once now. A wish of the service to wait stands.
-- $1 channel.
UPDATE paidwatch.channel SET not_before = NULL WHERE name = $1::text AND down_since IS NOT NULL;

-- name: asked_to_wait
-- How long the channel may not be asked yet, and why, where it is broken. $1 channel.
SELECT c.not_before - now() AS wait, c.down_reason FROM paidwatch.channel c WHERE c.name = $1::text AND c.not_before > now();

-- name: ring_outbox
-- Tells the daemon that there is something to deliver, unless the queue of notifications has no room.
SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('paidwatch', 'outbox') END AS rung;

-- name: test_delivery
-- How far one test message is. $1 delivery.
SELECT d.told_revision, d.reference, d.lease IS NOT NULL AS under_way, d.due_at IS NOT NULL AS waiting, d.dead_at IS NOT NULL AS dead
FROM paidwatch.delivery d WHERE d.delivery_id = $1::bigint;

-- name: test_attempts
-- The requests made for one test message, the oldest first. $1 delivery.
SELECT a.revision, a.result, a.code, a.took, a.size, a.error FROM paidwatch.attempt a WHERE a.delivery_id = $1::bigint ORDER BY a.attempt_id;

-- name: withdraw_test
-- A test is over when its command is: nothing of it is tried again, nothing of it stays open. $1 alert.
WITH over AS (
    UPDATE paidwatch.alert SET state = 'resolved', resolved_at = coalesce(resolved_at, now()), outcome = coalesce(outcome, 'dismissed')
    WHERE alert_id = $1::bigint AND kind = 'test' RETURNING alert_id
)
UPDATE paidwatch.delivery d SET due_at = NULL, lease = NULL, lease_until = NULL, dead_at = NULL FROM over WHERE d.alert_id = over.alert_id;

-- name: test_story
-- Which story a test message belongs to. $1 delivery.
SELECT d.alert_id FROM paidwatch.delivery d WHERE d.delivery_id = $1::bigint;
