-- What the receiver writes into the application's log of webhooks, for whatever columns that table has. Owned by the installing
-- role; see grants in 40_attach.sql. Beside the mapped columns these are filled where the table has them: webhook_type, headers,
-- signature, plan_id, processed_at.

-- Any text as JSON. What PostgreSQL cannot hold (a zero character, half a surrogate pair, a number beyond all bounds) is said so.
CREATE OR REPLACE FUNCTION paidwatch.readable_json(data text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(data::jsonb, '{"unreadable": true}');
EXCEPTION WHEN OTHERS THEN
    RETURN '{"unreadable": true}';
END $$;

-- The key of a user who exists; NULL for anything else, whatever it is.
CREATE OR REPLACE FUNCTION paidwatch.known_user(given text) RETURNS paidwatch.user_key
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT u.user_id FROM paidwatch.subscribers u WHERE u.user_id = given::paidwatch.user_key);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- The expression that fills one column of the log: its value, cut to what the column holds; NULL: it is left to its default.
CREATE OR REPLACE FUNCTION paidwatch.webhook_value(a pg_attribute, m json, zone text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH given AS (
        SELECT CASE a.attname
            WHEN m ->> 'method' THEN '$1 ->> ''method''' WHEN 'webhook_type' THEN '$1 ->> ''type'''
            WHEN m ->> 'status' THEN format('CASE $1 ->> ''status'' WHEN ''failed'' THEN %L ELSE $1 ->> ''status'' END',
                coalesce(m -> 'failed' ->> 0, 'failed'))
            WHEN m ->> 'error' THEN '$1 ->> ''error'''
            WHEN m ->> 'payment' THEN '$1 ->> ''reference''' WHEN 'plan_id' THEN '$1 ->> ''plan'''
            WHEN 'signature' THEN 'left($1 ->> ''signature'', 500)' END AS text
    )
    SELECT CASE
        WHEN a.attname = m ->> 'data' THEN format('paidwatch.readable_json($2)::%s', a.atttypid::regtype)
        WHEN a.attname = m ->> 'valid' THEN '($1 ->> ''valid'')::boolean'
        WHEN a.attname = m ->> 'user' THEN 'paidwatch.known_user($1 ->> ''user'')'
        WHEN a.attname = 'headers' AND a.atttypid IN ('json'::regtype, 'jsonb'::regtype) THEN format('($1 -> ''headers'')::%s', a.atttypid::regtype)
        WHEN a.attname IN (m ->> 'created_at', 'processed_at') AND a.atttypid IN ('timestamp'::regtype, 'timestamptz'::regtype) THEN
            format('($1 ->> %L)::timestamptz', CASE a.attname WHEN 'processed_at' THEN 'processed_at' ELSE 'received_at' END)
            || CASE a.atttypid WHEN 'timestamp'::regtype THEN format(' AT TIME ZONE %L', zone) ELSE '' END
        WHEN g.text IS NOT NULL THEN format('%s::%s',
            CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod > 4 THEN format('left(coalesce(%s, %s), %s)', g.text,
                    CASE WHEN a.attnotnull THEN '''''' ELSE 'NULL' END, a.atttypmod - 4)
                 WHEN a.attnotnull THEN format('coalesce(%s, '''')', g.text)
                 ELSE format('(%s)', g.text) END, a.atttypid::regtype)
        WHEN NOT a.attnotnull OR a.atthasdef THEN NULL
        WHEN a.atttypid = 'timestamptz'::regtype THEN 'now()'
        WHEN a.atttypid = 'timestamp'::regtype THEN format('(now() AT TIME ZONE %L)', zone)
        WHEN a.atttypid = 'boolean'::regtype THEN 'false'
        WHEN a.attname = m ->> 'id' AND a.atttypid IN ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype)
            THEN format('gen_random_uuid()::text::%s', a.atttypid::regtype)
        ELSE '' END
    FROM given g
$$;

-- Columns of the log that must be supplied and that paidwatch has no value for.
CREATE OR REPLACE FUNCTION paidwatch.unsupplied_webhook_columns(m json) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_attribute a
    WHERE a.attrelid = to_regclass(nullif(m ->> 'table', '')) AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attidentity = '' AND a.attgenerated = '' AND paidwatch.webhook_value(a, m, 'UTC') = ''
$$;

-- Inserts rows; an entry has method, type, status, error, reference, plan, user, signature, valid, headers, received_at and
-- processed_at, its payload is the body. Returns their ids in the same order, NULLs where the application keeps no log.
CREATE OR REPLACE FUNCTION paidwatch.write_webhooks(entries jsonb[], payloads text[]) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installed json := (SELECT mapping FROM paidwatch.installation);
    m json := installed -> 'webhooks';
    tab regclass := paidwatch.named_table('webhooks', m ->> 'table');
    missing text;
    columns text;
    vals text;
    id text;
BEGIN
    IF tab IS NOT NULL THEN
        SELECT string_agg(format('%I', v.attname), ', ' ORDER BY v.attnum), string_agg(v.value, ', ' ORDER BY v.attnum),
            min(v.attname) FILTER (WHERE v.value = '')
        INTO columns, vals, missing
        FROM (SELECT a.attname, a.attnum, paidwatch.webhook_value(a, m, installed ->> 'time_zone') AS value FROM pg_attribute a
              WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = '' AND a.attgenerated = '') v
        WHERE v.value IS NOT NULL;
    END IF;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'column % of % is NOT NULL without a default and paidwatch has no value for it', missing, tab
            USING ERRCODE = 'not_null_violation', HINT = 'Give the column a default, or map it in [webhooks].';
    END IF;
    FOR n IN 1 .. coalesce(array_length(entries, 1), 0) LOOP
        IF tab IS NOT NULL THEN
            EXECUTE format('INSERT INTO %s (%s) VALUES (%s) RETURNING (%I)::text', tab, columns, vals, m ->> 'id')
                INTO id USING entries[n], payloads[n];
        END IF;
        RETURN NEXT id;
    END LOOP;
END $$;

-- What became of webhooks whose rows were written before; the moment too, where the table has a column for it.
CREATE OR REPLACE FUNCTION paidwatch.update_webhooks(log_ids text[], entries jsonb[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installed json := (SELECT mapping FROM paidwatch.installation);
    m json := installed -> 'webhooks';
    tab regclass := paidwatch.named_table('webhooks', m ->> 'table');
    assignments text;
BEGIN
    SELECT string_agg(format('%I = %s', v.attname, v.value), ', ') INTO assignments
    FROM (SELECT a.attname, paidwatch.webhook_value(a, m, installed ->> 'time_zone') AS value FROM pg_attribute a
          WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attname IN (m ->> 'status', m ->> 'error', m ->> 'valid', 'processed_at')) v
    WHERE v.value <> '';
    FOR n IN 1 .. CASE WHEN assignments IS NULL THEN 0 ELSE coalesce(array_length(log_ids, 1), 0) END LOOP
        EXECUTE format('UPDATE %s t SET %s WHERE t.%I = $2::%s', tab, assignments, m ->> 'id', paidwatch.column_type(tab, m ->> 'id'))
            USING entries[n], log_ids[n];
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION paidwatch.write_webhooks(jsonb[], text[]), paidwatch.update_webhooks(text[], jsonb[]) FROM PUBLIC;
