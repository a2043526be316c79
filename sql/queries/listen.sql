-- name: self_test
-- A message to oneself, from the query path: it must come back on the listening connection. $1 nonce.
SELECT pg_notify('paidwatch', $1::text);

-- name: listening
-- Whether the subscription is known to the server: behind a pooler in transaction mode it is not.
SELECT EXISTS (SELECT FROM pg_listening_channels() AS c WHERE c = 'paidwatch') AS listening;

-- name: server
-- What this server is: facts that must not change under a running daemon.
SELECT pg_is_in_recovery() AS standby, current_setting('server_version') AS version, current_setting('server_version_num')::integer AS version_num,
    (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
    CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline,
    current_setting('max_prepared_transactions')::integer > 0 AS two_phase, current_database()::text AS database, current_user::text AS role,
    pg_backend_pid() AS pid;

-- name: hold_bell
-- Asleep: writers ring from now on. Waits for every writer that took part without ringing; bounded by lock_timeout.
SELECT pg_advisory_lock(paidwatch.bell());

-- name: release_bell
-- Awake: writers share the bell and do not ring.
SELECT pg_advisory_unlock(paidwatch.bell()) AS released;

-- name: lead
-- Waits for leadership; bounded by lock_timeout, so that a waiting snapshot never holds VACUUM back.
SELECT pg_advisory_lock(paidwatch.leadership());

-- name: installation
-- What was installed. $1: the mapping of the present configuration.
SELECT i.installation_id::text AS installation_id, i.mapping::text = $1::text AS same_mapping, i.installed_at, i.baseline_at, i.listening_at,
    i.not_watched, coalesce(i.mapping ->> 'two_phase', 'auto') AS two_phase,
    (SELECT max(version) FROM paidwatch.migration) AS version,
    ARRAY(SELECT m.version FROM paidwatch.migration m WHERE m.breaking) AS breaking, now() AS now
FROM paidwatch.installation i;

-- name: triggers
-- The triggers that ought to be there, as they are: one row each.
SELECT t.tgname::text AS name, t.tgrelid::regclass::text AS relation, t.tgenabled::text AS enabled,
    obj_description(t.oid, 'pg_trigger') AS fingerprint,
    md5(regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER \S+ ', '')) AS definition, p.proname::text AS function,
    p.prosecdef AS definer
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname LIKE 'paidwatch\_%'
ORDER BY 2, 1;

-- name: listening_again
-- Returns for how long nobody listened since a daemon last said goodbye; NULL when none did, as after a crash.
WITH former AS (
    SELECT i.singleton, i.listening_at FROM paidwatch.installation i FOR UPDATE
)
UPDATE paidwatch.installation i SET listening_at = NULL FROM former f WHERE i.singleton = f.singleton AND f.listening_at IS NOT NULL
RETURNING now() - f.listening_at AS away;

-- name: no_longer_listening
-- A daemon says goodbye: until now somebody listened.
UPDATE paidwatch.installation SET listening_at = now();
