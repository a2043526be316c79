-- name: migrated
-- Whether there is a table of migrations.
SELECT to_regclass('paidwatch.migration') IS NOT NULL AS migrated;

-- name: schema_version
-- The newest migration that is in.
SELECT max(version) AS version FROM paidwatch.migration;

-- name: schema_present
-- Whether there is anything to take out.
SELECT to_regnamespace('paidwatch') IS NOT NULL AS present;

-- name: not_watched
-- What the mapping names and the database does not have.
SELECT not_watched FROM paidwatch.installation;

-- name: history
-- What goes with the schema.
SELECT (SELECT count(*) FROM paidwatch.watch) AS watches, (SELECT count(*) FROM paidwatch.alert) AS alerts,
    (SELECT count(*) FROM paidwatch.activation) AS activations;

-- name: index_turn
-- One installation makes indexes at a time. Asked again and again, because making an index waits for whoever waits.
SELECT pg_try_advisory_lock(8097873591115412579 + 9) AS ours;

-- name: index_statements
-- What makes the index of recent paid payments and those for lookups, one statement a row; none of them can run in a
-- transaction. $1 mapping.
SELECT statement FROM paidwatch.index_statement($1::text::json) AS statement
UNION ALL SELECT statement FROM paidwatch.lookup_indexes($1::text::json) AS statement;

-- name: index_removals
-- What takes the indexes out again, one statement a row.
SELECT statement FROM paidwatch.index_removals() AS statement;
