-- The two writes into the application's tables, for whatever columns it has. Owned by the installing role; the runtime role
-- may execute them only where the owner of the database switched activation on (see grants.sql).

-- The columns of a user that an activation may write: canonical name, column.
CREATE OR REPLACE FUNCTION paidwatch.writable(m json) RETURNS TABLE (field text, col text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE f WHEN 'plan' THEN 'plan_id' ELSE f END, m ->> f
    FROM unnest(ARRAY['status', 'tier', 'plan', 'paid_until', 'revoked_at', 'last_paid_at', 'touched_at']) AS f
    UNION ALL SELECT 'paid_until', c FROM json_array_elements_text(coalesce(m -> 'also_paid_until', '[]')) AS c
$$;

-- Reads what an activation may write, as JSON by column; locks the row. NULL: no such user. A row that the application keeps
-- locked is not waited for: the activation is tried again later, and nothing else waits meanwhile. NO KEY: payments of the user
-- may be inserted at the same time.
CREATE OR REPLACE FUNCTION paidwatch.lock_subscriber(id paidwatch.user_key) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    m json := (SELECT mapping -> 'users' FROM paidwatch.installation);
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    columns text;
    image jsonb;
BEGIN
    SELECT string_agg(DISTINCT format('%L, t.%I', w.col, w.col), ', ') INTO columns
    FROM paidwatch.writable(m) w WHERE paidwatch.column_type(tab, w.col) IS NOT NULL;
    EXECUTE format('SELECT jsonb_build_object(%s) FROM %s t WHERE t.%I = $1 FOR NO KEY UPDATE', columns, tab, m ->> 'id') INTO image USING id;
    RETURN image;
END $$;

-- Writes canonical values ({"status": …, "paid_until": …}) into the columns that exist; naive columns get the configured zone.
-- Returns the columns written, as the row now has them; NULL where there is no such user.
CREATE OR REPLACE FUNCTION paidwatch.write_subscriber(id paidwatch.user_key, changes jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installed json := (SELECT mapping FROM paidwatch.installation);
    m json := installed -> 'users';
    zone text := installed ->> 'time_zone';
    tab regclass := paidwatch.named_table('users', m ->> 'table');
    assignments text;
    columns text;
    image jsonb;
BEGIN
    SELECT string_agg(format('%I = %s', w.col, CASE paidwatch.column_type(tab, w.col)
               WHEN 'timestamp'::regtype THEN format('(($2 ->> %L)::timestamptz AT TIME ZONE %L)', w.field, zone)
               WHEN 'date'::regtype THEN format('(($2 ->> %L)::timestamptz AT TIME ZONE %L)::date', w.field, zone)
               ELSE format('($2 ->> %L)::%s', w.field, paidwatch.column_type(tab, w.col)) END), ', '),
           string_agg(format('%L, t.%I', w.col, w.col), ', ')
    INTO assignments, columns
    FROM paidwatch.writable(m) w WHERE paidwatch.column_type(tab, w.col) IS NOT NULL AND changes ? w.field;
    EXECUTE format('UPDATE %s t SET %s WHERE t.%I = $1 RETURNING jsonb_build_object(%s)', tab, assignments, m ->> 'id', columns)
        INTO image USING id, changes;
    RETURN image;
END $$;

-- Columns of the events table that must be supplied and that paidwatch has no value for.
CREATE OR REPLACE FUNCTION paidwatch.unsupplied_event_columns(m json) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_attribute a
    WHERE a.attrelid = to_regclass(nullif(m ->> 'table', '')) AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
        AND a.attname NOT IN (coalesce(m ->> 'user', ''), coalesce(m ->> 'type', ''), coalesce(m ->> 'data', ''),
            coalesce(m ->> 'external_id', ''), coalesce(m ->> 'processed', ''))
        AND a.atttypid NOT IN ('timestamp'::regtype, 'timestamptz'::regtype, 'boolean'::regtype)
        AND NOT (a.attname = m ->> 'id' AND a.atttypid IN ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype))
$$;

-- Inserts one event with every NOT NULL column supplied; returns its id, or NULL where the application has no events table.
CREATE OR REPLACE FUNCTION paidwatch.write_event(subscriber paidwatch.user_key, event_type text, event_data jsonb, external_id text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    installed json := (SELECT mapping FROM paidwatch.installation);
    m json := installed -> 'events';
    zone text := installed ->> 'time_zone';
    tab regclass := paidwatch.named_table('events', m ->> 'table');
    missing text[] := paidwatch.unsupplied_event_columns(m);
    columns text;
    vals text;
    id text;
BEGIN
    IF tab IS NULL THEN
        RETURN NULL;
    END IF;
    IF cardinality(missing) > 0 THEN
        RAISE EXCEPTION 'column % of % is NOT NULL without a default and paidwatch has no value for it', missing[1], tab
            USING ERRCODE = 'not_null_violation', HINT = 'Give the column a default, or map it in [events].';
    END IF;
    SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum), string_agg(
        CASE WHEN a.attname = m ->> 'user' THEN '$1'
             WHEN a.attname = m ->> 'type' THEN format('$2::%s', a.atttypid::regtype)
             WHEN a.attname = m ->> 'data' THEN format('$3::text::%s', a.atttypid::regtype)
             WHEN a.attname = m ->> 'external_id' THEN '$4'
             WHEN a.attname = m ->> 'processed' THEN 'true'
             WHEN a.attname = m ->> 'id' THEN format('gen_random_uuid()::text::%s', a.atttypid::regtype)
             WHEN a.atttypid = 'timestamptz'::regtype THEN 'now()'
             WHEN a.atttypid = 'timestamp'::regtype THEN format('(now() AT TIME ZONE %L)', zone)
             ELSE 'false' END, ', ' ORDER BY a.attnum)
    INTO columns, vals
    FROM pg_attribute a
    WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = '' AND a.attgenerated = '' AND (
        a.attname IN (m ->> 'user', m ->> 'type', m ->> 'data', m ->> 'external_id', m ->> 'processed', m ->> 'created_at')
        OR a.attnotnull AND NOT a.atthasdef);
    EXECUTE format('INSERT INTO %s (%s) VALUES (%s) RETURNING (%I)::text', tab, columns, vals, m ->> 'id')
        INTO id USING subscriber, event_type, event_data, external_id;
    RETURN id;
END $$;
REVOKE ALL ON FUNCTION paidwatch.lock_subscriber(paidwatch.user_key), paidwatch.write_subscriber(paidwatch.user_key, jsonb),
    paidwatch.write_event(paidwatch.user_key, text, jsonb, text) FROM PUBLIC;
