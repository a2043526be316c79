-- name: drill_database
-- The statements that make and remove the database of a drill; what it is like does not depend on the server's templates. $1 name.
SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING ''UTF8'' LC_COLLATE ''C'' LC_CTYPE ''C''', $1::text) AS make,
    format('DROP DATABASE IF EXISTS %I WITH (FORCE)', $1::text) AS remove;

-- name: drill_leftovers
-- Databases of drills that nobody uses and that were made before $1 (seconds since 1970): their machine died.
SELECT d.datname::text AS name FROM pg_database d
WHERE d.datname ~ '^paidwatch_drill_[0-9]{1,12}_[0-9a-f]{8}$' AND pg_get_userbyid(d.datdba) = current_user
    AND split_part(d.datname, '_', 3)::bigint < $1::bigint AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)
ORDER BY d.datname;
