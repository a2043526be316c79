-- name: schema_version
-- The newest migration that is in, NULL where nothing is installed.
SELECT CASE WHEN to_regclass('paidwatch.migration') IS NULL THEN NULL ELSE
    (xpath('/row/v/text()', query_to_xml('SELECT max(version) AS v FROM paidwatch.migration', true, true, '')))[1]::text::integer END AS version;

-- name: schema_present
-- Whether there is anything to take out.
SELECT to_regnamespace('paidwatch') IS NOT NULL AS present;

-- name: not_watched
-- What the mapping names and the database does not have.
SELECT not_watched FROM paidwatch.installation;

-- name: index_statements
-- What makes the index of recent paid payments, one statement a row; none of them can run in a transaction. $1 mapping.
SELECT statement FROM paidwatch.index_statement($1::text::json) AS statement;

-- name: index_removals
-- What takes the index out again, one statement a row.
SELECT statement FROM paidwatch.index_removals() AS statement;
